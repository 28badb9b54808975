//! The golden matrix: each request of `golden/` as it goes to each kind of target. What changes is shown line by line, and must be what
//! the target would take.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hotspare_core::{Platform, Preset};
use hotspare_wire::history::{Adapted, Target, adapt};
use hotspare_wire::mint::{Issuer, Mark, mark_of_thinking};
use hotspare_wire::repair::Repair;
use serde_json::Value;

const ANTHROPIC: Platform = Platform::Anthropic;
const OPENROUTER: Platform = Platform::OpenRouter;

const fn target(profile: &'static str, platform: Platform, model: Option<&'static str>) -> Target<'static> {
    Target { profile, company: profile, platform, model, repair: None }
}

const TARGETS: [Target<'static>; 7] = [
    target("work", ANTHROPIC, None),
    target("work", ANTHROPIC, Some("claude-haiku-4-5")),
    target("openrouter", OPENROUTER, Some("anthropic/claude-opus-5.5")),
    target("glm", Platform::Compatible(Preset::Zai), Some("glm-5")),
    target("kimi", Platform::Compatible(Preset::Kimi), Some("kimi-k3")),
    target("local", Platform::Compatible(Preset::Ollama), Some("qwen3-coder")),
    target("gateway", Platform::Compatible(Preset::LiteLlm), None),
];

/// Who minted the thinking of a request: its signature, its data or its text begins with the profile's name.
fn mints(request: &Value) -> HashMap<Mark, Issuer> {
    let mut found = HashMap::new();
    for block in
        request["messages"].as_array().into_iter().flatten().flat_map(|message| message["content"].as_array().into_iter().flatten())
    {
        let text = |key: &str| block[key].as_str();
        let (mark, told) = match text("type") {
            Some("thinking") => (mark_of_thinking(text("thinking"), text("signature")), text("signature").or(text("thinking"))),
            Some("redacted_thinking") => (text("data").map(Mark::of_redacted), text("data")),
            _ => continue,
        };
        let name = told.unwrap_or_default().split(['-', ':']).next().unwrap_or_default().to_ascii_lowercase();
        if let (Some(mark), true) = (mark, name != "unknown") {
            found.insert(mark, Issuer { native: matches!(&*name, "work" | "login2"), profile: name.into() });
        }
    }
    found
}

fn adapted(body: &Bytes, target: &Target<'_>) -> Result<(Bytes, String), String> {
    let mints = mints(&serde_json::from_slice(body).expect("an example is JSON"));
    match adapt(body, target, &|mark| mints.get(&mark).cloned()) {
        Ok(Adapted::Same) => Ok((body.clone(), "as it came".to_owned())),
        Ok(Adapted::Changed(parts, changes)) => Ok((parts.concat().into(), changes.to_string())),
        Err(unfit) => Err(unfit.to_string()),
    }
}

fn examples() -> Vec<(String, Bytes)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = std::fs::read_dir(folder).expect("the folder of examples");
    let mut found: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    found.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("a readable example").into())
    };
    found.iter().map(read).collect()
}

/// The lines that differ, `-` as it came and `+` as it goes.
fn diff(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            common[i][j] = if a == b { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut shown) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j >= new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            let _ = writeln!(shown, "- {}", old[i].trim());
            i += 1;
        } else {
            let _ = writeln!(shown, "+ {}", new[j].trim());
            j += 1;
        }
    }
    shown
}

#[test]
fn each_request_at_each_target() {
    for (name, body) in examples() {
        let mut shown = String::new();
        for target in &TARGETS {
            let _ = writeln!(shown, "== {} {}", target.profile, target.model.unwrap_or("(its own model)"));
            match adapted(&body, target) {
                Err(unfit) => {
                    let _ = writeln!(shown, "cannot go there: {unfit}");
                }
                Ok((after, changes)) => {
                    let _ = writeln!(shown, "{changes}");
                    shown += &diff(std::str::from_utf8(&body).unwrap(), std::str::from_utf8(&after).unwrap());
                }
            }
        }
        insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, shown);
        });
    }
}

/// Five of five builds sent `metadata.user_id` and the billing block to other companies (measured).
#[test]
fn r54_what_goes_out_is_well_formed_and_stays_so() {
    for (name, body) in examples() {
        for target in &TARGETS {
            let Ok((once, _)) = adapted(&body, target) else { continue };
            check(&name, target, &serde_json::from_slice(&once).unwrap());
            let again = adapted(&once, target).unwrap();
            assert_eq!(again.0, once, "{name} to {}: a second time changes nothing", target.profile);
            assert_eq!(adapted(&body, target).unwrap().0, once, "the same history gives the same bytes");
        }
    }
}

fn is_claude(target: &Target<'_>) -> bool {
    target.platform.is_native() || target.model.is_none_or(|model| model.contains("claude"))
}

/// What every target minds.
fn check(name: &str, target: &Target<'_>, request: &Value) {
    if name == "not_a_request" {
        return;
    }
    let messages = request["messages"].as_array().expect("messages");
    let mut calls = HashSet::new();
    for message in messages {
        let content = &message["content"];
        assert!(content.as_array().is_none_or(|blocks| !blocks.is_empty()), "{name} to {}: an empty message", target.profile);
        for block in content.as_array().into_iter().flatten() {
            let text = |key: &str| block[key].as_str().unwrap_or_default();
            match text("type") {
                "tool_use" => {
                    let new = calls.insert(text("id").to_owned());
                    assert!(new || !is_claude(target), "{name} to {}: a call twice", target.profile);
                }
                "tool_result" => assert!(calls.contains(text("tool_use_id")), "{name}: a result without its call"),
                "thinking" => assert!(!target.platform.is_native() || !text("signature").starts_with("GLM"), "{name}: a forged signature"),
                _ => {}
            }
        }
    }
    if !target.platform.is_native() {
        let text = request.to_string();
        for private in [
            "x-anthropic-billing-header",
            "account_uuid",
            "classifier_context",
            "encrypted_content",
            "container_1",
            "\"system\",\"content\"",
        ] {
            assert!(!text.contains(private), "{name} to {}: {private}", target.profile);
        }
    }
}

/// krouter #11: 116 of 116 errors were signatures of its own making; cc-switch #3930: good ones stripped.
#[test]
fn r44_r46_toward_the_company_that_signed_nothing_changes() {
    let bodies = examples();
    let tool_search = &bodies.iter().find(|(name, _)| name == "server_tools").unwrap().1;
    assert_eq!(adapt(tool_search, &TARGETS[0], &|_| None), Ok(Adapted::Same));
}

/// Claude Code 2.1.265, 2.1.275, 2.1.304: a field or beta that a new release brought was refused elsewhere.
#[test]
fn r50_a_repair_takes_out_what_was_refused() {
    let body = Bytes::from_static(
        br#"{"model":"claude-opus-5-5","thinking":{"type":"adaptive","display":"updates"},"messages":[{"role":"user","content":"a","clear_at":1},
{"role":"system","content":"s"},{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"WORK-1"},{"type":"text","text":"t"}]}],
"tools":[{"name":"a","defer_loading":true},{"defer_loading":true,"name":"b"}],"speed":"fast"}"#,
    );
    let repaired = |message: &str| {
        let repair = Repair::of_message(message).expect("repairable");
        adapted(&body, &Target { repair: Some(&repair), ..TARGETS[0] }).unwrap().0
    };
    let without = |from: &str, to: &str| std::str::from_utf8(&body).unwrap().replace(from, to);
    assert_eq!(
        repaired("tools.1.custom.defer_loading: Extra inputs are not permitted"),
        without(r#","defer_loading":true"#, "").replace(r#""defer_loading":true,"#, "")
    );
    assert_eq!(repaired("body.speed: Extra inputs are not permitted"), without(r#","speed":"fast""#, ""));
    assert_eq!(repaired("thinking.adaptive.display: Extra inputs are not permitted"), without(r#","display":"updates""#, ""));
    assert_eq!(repaired("messages.0.clear_at: Extra inputs are not permitted"), without(r#","clear_at":1"#, ""));
    assert_eq!(
        repaired("Invalid `signature` in `thinking` block"),
        without(r#"{"type":"thinking","thinking":"","signature":"WORK-1"},"#, "")
    );
    let folded = without(",\n{\"role\":\"system\",\"content\":\"s\"}", "")
        .replace(r#""a","clear_at""#, r#""a\n\n<system-reminder>\ns\n</system-reminder>","clear_at""#);
    assert_eq!(repaired("Unexpected role \"system\""), folded);
    assert_eq!(repaired("never.there: Extra inputs are not permitted"), body);
}
