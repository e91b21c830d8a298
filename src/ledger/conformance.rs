//! What every ledger does, whatever store it stands on. A store runs all of it with `conformance!`.

use std::sync::Arc;

use super::Ledger;
use super::rows::{Applied, Restored};
use super::samples::Sample;

mod books;
mod corrections;
mod directory;

pub(crate) use books::*;
pub(crate) use corrections::*;
pub(crate) use directory::*;

/// Makes a test of each behaviour. `$open` makes an empty ledger, and what must live as long as it does.
macro_rules! conformance {
    ($open:path: $($behaviour:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $behaviour() {
            let (ledger, _keeps) = $open();
            $crate::ledger::conformance::$behaviour(ledger).await;
        }
    )+};
    ($open:path) => {
        $crate::ledger::conformance::conformance! { $open:
            every_kind_of_record_is_booked_and_adds_up,
            what_is_booked_again_changes_nothing,
            other_content_in_a_booked_place_is_a_conflict,
            a_decision_is_booked_once_wherever_it_stands,
            a_gap_waits_and_is_filled_in_any_order,
            a_correction_is_the_next_revision_and_is_booked_once,
            a_refund_and_another_price_are_the_next_revisions,
            an_adjustment_changes_a_grant_or_a_debt_and_is_booked_once,
            what_does_not_add_up_is_left_out_whole,
            records_of_unknown_accounts_are_left_out,
            a_hold_books_what_it_issues_and_nothing_else,
            a_call_that_never_left_is_no_usage,
            the_chain_of_a_balance_can_be_verified_from_its_updates,
            a_restore_tells_what_was_applied,
            a_restore_tells_of_no_revoked_key_and_no_spent_grant,
            names_are_unique_where_they_must_be,
            what_does_not_exist_is_missing,
            directories_are_read_in_pages,
            histories_are_read_newest_first_in_pages,
            a_key_is_revoked_once,
            what_was_made_upstream_has_one_owner,
            a_users_videos_are_listed_in_order_from_any_place,
            a_job_belongs_to_its_account_from_its_beginning,
            what_was_made_long_ago_is_nobodys_but_while_its_job_is_open,
            jobs_that_their_deadline_has_ended_are_found_until_their_truth_is_known,
            a_policy_is_kept_under_its_version,
            the_log_of_blocks_keeps_the_newest,
        }
    };
}
pub(crate) use conformance;

type Shared = Arc<dyn Ledger>;

async fn with_account(ledger: &Shared, n: u8) -> Sample {
    let sample = Sample::new(n);
    ledger.add_account(&sample.account).await.unwrap();
    ledger.add_user(&sample.user).await.unwrap();
    sample
}

fn booked(count: u64) -> Applied {
    Applied { booked: count, ..Applied::default() }
}

async fn told(ledger: &Shared) -> Vec<Restored> {
    let mut told = Vec::new();
    ledger.restore(&mut |restored| told.push(restored)).await.unwrap();
    told
}

/// All of a restore as text, to compare two with.
async fn state(ledger: &Shared) -> String {
    format!("{:#?}", told(ledger).await)
}
