//! Exports as they are fetched, against books of a few calls.

use super::*;
use crate::audit::reconcile::export::Export;
use crate::ledger::Ledger;
use crate::ledger::samples::Sample;
use crate::ledger::sqlite::{SqliteBooks, SqliteLedger};
use crate::units::{Quantities, Span};

/// 2026-11-01.
const DAY: i64 = 1_793_491_200;
const HOUR: i64 = 3_600;

fn read(text: &str) -> Result<Export, ExportError> {
    Export::read(text.as_bytes())
}

fn page(buckets: &str, has_more: bool) -> String {
    format!(r#"{{"object": "page", "data": [{buckets}], "has_more": {has_more}, "next_page": null}}"#)
}

fn bucket(start: i64, end: i64, results: &str) -> String {
    format!(r#"{{"object": "bucket", "start_time": {start}, "end_time": {end}, "results": [{results}]}}"#)
}

fn result(model: &str, requests: u64, input: u64, cached: u64, output: u64) -> String {
    format!(
        r#"{{"object": "organization.usage.completions.result", "input_tokens": {input}, "output_tokens": {output},
        "input_cached_tokens": {cached}, "num_model_requests": {requests}, "project_id": null, "model": {model}}}"#
    )
}

/// A call: model, seconds after the day's beginning at which it was held and ended, quantities, and how.
type Called = (&'static str, i64, i64, [u64; 3], Outcome, Grade);

async fn books(calls: &[Called]) -> (SqliteBooks, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = SqliteLedger::open(&path).unwrap();
    let mut sample = Sample::new(1);
    ledger.add_account(&sample.account).await.unwrap();
    let mut records = Vec::new();
    for (model, held, ended, [input, cached, output], outcome, grade) in calls {
        let mut end = sample.end(&[], 0);
        end.model = (*model).into();
        end.held_at = Timestamp::from_ms((DAY + held) * 1_000);
        end.ended_at = Timestamp::from_ms((DAY + ended) * 1_000);
        (end.ending.outcome, end.ending.grade, end.ending.resource) = (*outcome, *grade, None);
        let quantities = Quantities {
            input_tokens: *input,
            cached_input_tokens: *cached,
            output_tokens: *output,
            ..Quantities::default()
        };
        (end.used.quantities, end.estimate.quantities) = (quantities.clone(), quantities);
        records.push(crate::access::record::Record::End(Box::new(end)));
    }
    let applied = ledger.apply(records).await.unwrap();
    assert_eq!(applied.booked, calls.len() as u64);
    (SqliteBooks::open(&path).unwrap(), folder)
}

const DONE: (Outcome, Grade) = (Outcome::Completed, Grade::Exact);

fn called(model: &'static str, held: i64, ended: i64, quantities: [u64; 3]) -> Called {
    (model, held, ended, quantities, DONE.0, DONE.1)
}

#[tokio::test]
async fn what_both_sides_say_alike_agrees_whatever_the_shape_of_the_export() {
    let (books, _folder) = books(&[
        called("gpt-5.5", 10, 20, [100, 40, 7]),
        called("gpt-5.5", 2 * HOUR, 2 * HOUR + 9, [50, 0, 3]),
        called("gpt-5.3-codex", 30, 40, [5, 0, 1]),
        // Refused, and outside of what is covered.
        ("gpt-5.5", 50, 60, [9, 9, 9], Outcome::Refused, Grade::Exact),
        called("gpt-5.5", 25 * HOUR, 25 * HOUR + 1, [1, 1, 1]),
    ])
    .await;
    let dated = r#""gpt-5.5-2026-04-23""#;
    let codex = result(r#""gpt-5.3-codex""#, 1, 5, 0, 1);
    let whole = bucket(DAY, DAY + 24 * HOUR, &format!("{}, {codex}", result(dated, 2, 150, 40, 10)));
    let first = bucket(DAY, DAY + HOUR, &format!("{}, {codex}", result(dated, 1, 100, 40, 7)));
    let rest = bucket(DAY + HOUR, DAY + 24 * HOUR, &result(r#""gpt-5.5""#, 1, 50, 0, 3));
    let (day, next) = (DAY, DAY + 24 * HOUR);
    let table = format!(
        "start_time,end_time,start_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens,input_cached_tokens\n\
         {day},{next},x,p,1.0,gpt-5.5-2026-04-23,100,7,40\n{day},{next},x,q,1.0,gpt-5.5,50,3.0,\n{day},{next},,,1,gpt-5.3-codex,5,1,0\n"
    );
    let iso = table.replace(&format!("{day},"), "2026-11-01T00:00:00+00:00,");
    for text in [
        page(&whole, false),
        format!("{}\n{}", page(&first, true), page(&rest, false)),
        format!("[{}, {}]", page(&first, true), page(&rest, false)),
        format!("\u{feff}{}", page(&whole, false)),
        format!("\u{feff}{table}"),
        table,
        iso,
    ] {
        let told = reconcile(&read(&text).unwrap(), &books).unwrap();
        assert!(told.agrees() && told.agreeing == 2, "{text}\n{told}");
    }
    let all = page(&bucket(day, next, &result("null", 3, 155, 40, 11)), false);
    let told = reconcile(&read(&all).unwrap(), &books).unwrap();
    assert!(told.agrees() && told.agreeing == 1, "{told}");
}

#[tokio::test]
async fn what_one_side_lacks_or_says_otherwise_is_told_with_what_may_explain_it() {
    let (books, _folder) = books(&[
        called("gpt-5.5", 10, 20, [100, 40, 7]),
        ("gpt-5.5", 30, 40, [10, 0, 2], Outcome::Cut, Grade::Floor),
        called("gpt-5.5", 24 * HOUR - 5, 24 * HOUR + 5, [1, 0, 1]),
        called("ours", 50, 60, [3, 0, 3]),
    ])
    .await;
    let results =
        format!("{}, {}", result(r#""gpt-5.5""#, 3, 111, 40, 30), result(r#""theirs""#, 1, 2, 0, 2));
    let text = page(&bucket(DAY, DAY + 24 * HOUR, &results), false);
    let told = reconcile(&read(&text).unwrap(), &books).unwrap();
    let names = |rows: &[ReconciledRow]| rows.iter().map(|row| row.model.clone()).collect::<Vec<_>>();
    assert_eq!(names(&told.only_ours), ["ours"]);
    assert_eq!(names(&told.only_theirs), ["theirs"]);
    assert_eq!(names(&told.different), ["gpt-5.5"]);
    let row = &told.different[0];
    assert_eq!((row.day.as_str(), row.ours_inexact, row.ours_across_edge), ("2026-11-01", 1, 1));
    let ours = Counts { requests: 2, input_tokens: 110, cached_input_tokens: 40, output_tokens: 9 };
    assert_eq!(row.ours, Some(ours));
    insta::assert_snapshot!(told.to_string(), @r"
    from 2026-11-01T00:00:00.000Z until 2026-11-02T00:00:00.000Z: 0 days and models agree

    only ours                                              ours           theirs    ours - theirs
      2026-11-01 ours
        requests                                              1                0               +1
        input tokens                                          3                0               +3
        output tokens                                         3                0               +3

    only theirs                                            ours           theirs    ours - theirs
      2026-11-01 theirs
        requests                                              0                1               -1
        input tokens                                          0                2               -2
        output tokens                                         0                2               -2

    different                                              ours           theirs    ours - theirs
      2026-11-01 gpt-5.5
        requests                                              2                3               -1
        input tokens                                        110              111               -1
        output tokens                                         9               30              -21
        1 of ours are not exact
        1 of ours were under way at midnight
    ");
}

#[test]
fn what_is_no_whole_export_is_refused_with_its_reason() {
    let day = bucket(DAY, DAY + 24 * HOUR, &result(r#""m""#, 1, 1, 0, 1));
    let mixed = bucket(
        DAY,
        DAY + 24 * HOUR,
        &format!("{}, {}", result("null", 1, 1, 0, 1), result(r#""m""#, 1, 1, 0, 1)),
    );
    let week = bucket(DAY, DAY + 7 * 24 * HOUR, "");
    let head = "start_time,end_time,num_model_requests,input_tokens,output_tokens\n";
    for (text, why) in [
        (page(&day, true), "the export goes on after its last page"),
        (page(&mixed, false), "some results name no model"),
        (page(&week, false), "is not within one day of UTC"),
        (page("", false), "the export has no buckets"),
        (page(&day, false).replace("output_tokens", "produced"), "not in the shape of the usage endpoint"),
        (page(&day, false).replace(r#""input_tokens": 1"#, r#""input_tokens": -1"#), "not in the shape"),
        ("{".to_owned(), "not in the shape"),
        (String::new(), "row 0 of the export: `start_time` is `no column`"),
        (head.replace("input_tokens,", ""), "row 0 of the export: `input_tokens` is `no column`"),
        (head.to_owned(), "the export has no buckets"),
        (format!("{head}soon,{DAY},1,1,1\n"), "row 1 of the export: `start_time` is `soon`"),
        (format!("{head}{DAY},{},1.5,1,1\n", DAY + 60), "row 1 of the export: `num_model_requests` is `1.5`"),
        (format!("{head}{DAY},{},1\n", DAY + 60), "the export is no table of usage"),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}\n{error}");
    }
}

#[test]
fn an_export_of_a_time_without_use_covers_it_all_the_same() {
    let text = format!("start_time,end_time,start_time_iso,end_time_iso\n{DAY},{},a,b\n", DAY + 60);
    let export = read(&text).unwrap();
    assert_eq!(export.until().since(export.from()), Span::from_seconds(60));
    assert_eq!(export.counts().count(), 0);
}

#[test]
fn only_dates_are_left_out_of_models() {
    for (model, name) in [
        ("gpt-5.5-2026-04-23", "gpt-5.5"),
        ("gpt-5.5", "gpt-5.5"),
        ("gpt-5.5-2026-04-2x", "gpt-5.5-2026-04-2x"),
        ("-2026-04-23", "-2026-04-23"),
        ("é2026-04-23", "é2026-04-23"),
    ] {
        assert_eq!(undated(model), name);
    }
}
