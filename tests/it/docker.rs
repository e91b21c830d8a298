//! The image: where no engine runs, its steps are carried out as a script, in namespaces of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::workspace;

/// An instruction of the Dockerfile, continued lines put together.
#[derive(Clone, Debug)]
struct Instruction {
    word: String,
    rest: String,
}

fn instructions() -> Vec<Instruction> {
    let text = std::fs::read_to_string(workspace::root().join("Dockerfile")).expect("a Dockerfile");
    let text = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').expect("a word and its arguments");
            Instruction { word: word.to_owned(), rest: rest.trim().to_owned() }
        })
        .collect()
}

/// The stages, each from its `FROM` on.
fn stages() -> Vec<Vec<Instruction>> {
    let mut stages: Vec<Vec<Instruction>> = Vec::new();
    for instruction in instructions() {
        if instruction.word == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("it begins with FROM").push(instruction);
    }
    stages
}

fn of<'a>(stage: &'a [Instruction], word: &str) -> Vec<&'a str> {
    stage
        .iter()
        .filter(|instruction| instruction.word == word)
        .map(|instruction| &*instruction.rest)
        .collect()
}

/// What a JSON array of words says.
fn words(array: &str) -> Vec<String> {
    serde_json::from_str(array).unwrap_or_else(|error| panic!("{array}: {error}"))
}

#[test]
fn the_image_runs_without_privileges_and_says_how_it_is() {
    let stages = stages();
    assert_eq!(stages.len(), 2, "what builds is not what runs");
    let last = &stages[1];
    let user = of(last, "USER");
    assert_eq!(user.len(), 1);
    assert!(!user[0].starts_with('0') && !user[0].starts_with("root"), "{user:?}");
    let place = |word: &str| last.iter().position(|instruction| instruction.word == word);
    assert!(place("USER") < place("ENTRYPOINT"));
    assert_eq!(of(last, "HEALTHCHECK").len(), 1);
    assert_eq!(of(last, "STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(words(of(last, "ENTRYPOINT")[0]), ["/usr/local/bin/overfall"]);
    assert!(!of(last, "VOLUME").is_empty() && !of(last, "EXPOSE").is_empty());
    for instruction in instructions() {
        assert_ne!(instruction.word, "ADD", "COPY says what it does");
        let secret = ["KEY=", "TOKEN=", "PASSWORD="].iter().any(|word| instruction.rest.contains(word));
        assert!(!secret, "no secret in a layer: {instruction:?}");
    }
}

#[test]
fn what_the_image_copies_exists_and_is_let_through() {
    let ignore = std::fs::read_to_string(workspace::root().join(".dockerignore")).expect("a .dockerignore");
    let let_through: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut copied = BTreeSet::new();
    for instruction in instructions().iter().filter(|instruction| instruction.word == "COPY") {
        let (from, sources, _) = copy_of(&instruction.rest);
        if from.is_none() {
            copied.extend(sources);
        }
    }
    for source in &copied {
        assert!(workspace::root().join(source).exists(), "{source}");
        let top = source.split('/').next().expect("a name");
        assert!(let_through.contains(top), "{source} is kept out by .dockerignore");
    }
    for top in let_through {
        assert!(
            copied.iter().any(|source| source.split('/').next() == Some(top)),
            "{top} is let through for nothing"
        );
    }
}

/// Stage, sources, destination.
fn copy_of(rest: &str) -> (Option<&str>, Vec<String>, &str) {
    let mut parts: Vec<&str> = rest.split_whitespace().collect();
    let from = parts.first().and_then(|part| part.strip_prefix("--from="));
    if from.is_some() {
        parts.remove(0);
    }
    let to = parts.pop().expect("a destination");
    (from, parts.into_iter().map(str::to_owned).collect(), to)
}

#[test]
fn the_steps_of_the_image_build_it_and_what_it_starts_is_healthy() {
    let stages = stages();
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    // The first stage: only what it copies is there.
    let mut copied = BTreeSet::new();
    for rest in of(&stages[0], "COPY") {
        let (_, sources, _) = copy_of(rest);
        copied.extend(
            workspace::files()
                .into_iter()
                .filter(|file| sources.iter().any(|source| file.starts_with(source))),
        );
    }
    workspace::copy(&copied, &built);
    let build =
        of(&stages[0], "RUN").into_iter().find(|run| run.starts_with("cargo build")).expect("it builds");
    let status = Command::new("sh")
        .args(["-c", build])
        .env("CARGO_TARGET_DIR", workspace::target())
        .current_dir(&built)
        .status()
        .expect("a shell");
    assert!(status.success(), "`{build}` with nothing but what is copied");

    let script = script(&stages[1], &workspace::target().join("release/overfall"));
    let allowed = Command::new("unshare").args(["-mn", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("*** SKIPPED: the second stage needs mounts, which are not allowed here ***");
        return;
    }
    let output = Command::new("unshare")
        .args(["-mn", "bash", "-euo", "pipefail", "-c", &script])
        .current_dir(workspace::root())
        .output()
        .expect("a shell");
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{told}");
    assert!(told.contains("HEALTHY AS 10001") && told.contains("ENDED WITH 0"), "{told}");
}

/// The second stage as a script. Its base image is this machine's root, with a layer over it that nothing outlives.
fn script(stage: &[Instruction], binary: &Path) -> String {
    let root = PathBuf::from("/mnt/image/root");
    let root = root.display();
    let mut lines = vec![
        "ip link set lo up".to_owned(),
        "mount -t tmpfs none /mnt && mkdir -p /mnt/image/upper /mnt/image/work /mnt/image/root".to_owned(),
        format!(
            "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/image/upper,workdir=/mnt/image/work {root}"
        ),
        format!("mount --rbind /proc {root}/proc && mount --rbind /dev {root}/dev"),
        "inside() { chroot /mnt/image/root \"$@\"; }".to_owned(),
        // What the base image brings is here already, and packages need a network.
        "without_packages='apt-get() { :; }; rm() { :; };'".to_owned(),
    ];
    for Instruction { word, rest } in stage {
        match word.as_str() {
            "RUN" => lines.push(format!("inside bash -euc \"$without_packages\"{}", quoted(rest))),
            "COPY" => {
                let (from, sources, to) = copy_of(rest);
                let sources: Vec<String> =
                    if from.is_some() { vec![binary.display().to_string()] } else { sources };
                lines.push(format!("mkdir -p $(dirname {root}{to}/.) && {{ [ -d {root}{to} ] && ! [[ {to} == */ ]] && rmdir {root}{to}; true; }}"));
                lines.push(format!("cp {} {root}{to}", sources.join(" ")));
            }
            _ => {}
        }
    }
    let (uid, gid) = of(stage, "USER")[0].split_once(':').expect("a user and a group");
    let start = [words(of(stage, "ENTRYPOINT")[0]), words(of(stage, "CMD")[0])].concat();
    let start: Vec<String> = start.iter().map(|word| quoted(word)).collect();
    let check = of(stage, "HEALTHCHECK")[0].split_once("CMD ").expect("a command").1;
    let check: Vec<String> = words(check).iter().map(|word| quoted(word)).collect();
    let drop = format!("setpriv --reuid={uid} --regid={gid} --clear-groups --no-new-privs");
    lines.extend([
        "export OPENAI_API_KEY=sk-test OVERFALL_ADMIN_TOKEN=token".to_owned(),
        format!("chroot {root} {drop} {} & gateway=$!", start.join(" ")),
        format!(
            "for try in $(seq 100); do if inside {drop} {}; then break; fi 2>/dev/null; sleep 0.1; done",
            check.join(" ")
        ),
        format!("inside {drop} {}", check.join(" ")),
        "echo HEALTHY AS $(stat -c %u /proc/$gateway)".to_owned(),
        format!("test -f {root}/var/lib/overfall/ledger.sqlite"),
        "kill -TERM $gateway; wait $gateway && echo ENDED WITH 0".to_owned(),
        format!(
            "if inside {drop} {} 2>/dev/null; then echo healthy after its end; exit 1; fi",
            check.join(" ")
        ),
    ]);
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
