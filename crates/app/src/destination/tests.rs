//! Where files send Claude Code, as people write them.

use std::path::Path;

use super::*;

#[track_caller]
fn found(text: &str, variables: &[(&str, &str)]) -> Vec<(String, Option<String>, bool)> {
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let named = in_shell_text(text, Path::new("/h/.zshrc"), &variable);
    let shown = |named: &Named| {
        let credential = named.credential.as_ref().map(|secret| secret.expose_secret().to_owned());
        (named.url.to_string(), credential, named.is_exported)
    };
    named.iter().map(shown).collect()
}

fn one(url: &str, credential: Option<&str>, is_exported: bool) -> Vec<(String, Option<String>, bool)> {
    vec![(url.to_owned(), credential.map(str::to_owned), is_exported)]
}

const URL: &str = "https://api.z.ai/api/anthropic";

#[test]
fn shell_alias_is_found_with_its_credential() {
    let expected = one(URL, Some("zai-1"), false);
    for line in [
        format!("alias glm='ANTHROPIC_BASE_URL={URL} ANTHROPIC_AUTH_TOKEN=zai-1 claude'"),
        format!("alias glm=\"ANTHROPIC_AUTH_TOKEN=zai-1 ANTHROPIC_BASE_URL={URL} claude --continue\""),
        format!("glm() {{ ANTHROPIC_BASE_URL=\"{URL}\" ANTHROPIC_API_KEY=\"zai-1\" command claude \"$@\"; }}"),
        format!("glm() {{\n  export ANTHROPIC_BASE_URL={URL}\n  export ANTHROPIC_AUTH_TOKEN='zai-1'\n  claude \"$@\"\n}}"),
        format!("function glm\n  set -lx ANTHROPIC_BASE_URL {URL}\n  set -lx ANTHROPIC_AUTH_TOKEN zai-1\n  claude $argv\nend"),
    ] {
        assert_eq!(found(&line, &[]), expected, "{line}");
    }
}

#[test]
fn shell_export_counts_for_every_session() {
    for line in [
        format!("export ANTHROPIC_BASE_URL={URL}\nexport ANTHROPIC_AUTH_TOKEN=zai-1"),
        format!("export ANTHROPIC_AUTH_TOKEN=zai-1\n\nexport ANTHROPIC_BASE_URL=\"${{ANTHROPIC_BASE_URL:-{URL}}}\""),
        format!("set -gx ANTHROPIC_BASE_URL {URL}\nset -gx ANTHROPIC_AUTH_TOKEN zai-1"),
    ] {
        assert_eq!(found(&line, &[]), one(URL, Some("zai-1"), true), "{line}");
    }
}

#[test]
fn shell_variable_gives_the_credential() {
    let line = format!("ZAI=zai-1\nalias glm='ANTHROPIC_BASE_URL={URL} ANTHROPIC_AUTH_TOKEN=$ZAI claude'");
    assert_eq!(found(&line, &[("ZAI", "other")]), one(URL, Some("zai-1"), false), "the file's own value first");
    let line = format!("alias glm='ANTHROPIC_BASE_URL={URL} ANTHROPIC_AUTH_TOKEN=${{ZAI:-zai-2}} claude'");
    assert_eq!(found(&line, &[("ZAI", "zai-1")]), one(URL, Some("zai-1"), false));
    assert_eq!(found(&line, &[]), one(URL, Some("zai-2"), false));
    let line = format!("alias glm='ANTHROPIC_BASE_URL={URL} ANTHROPIC_AUTH_TOKEN=$(pass zai) claude'");
    assert_eq!(found(&line, &[]), one(URL, None, false), "only a shell could say");
}

#[test]
fn shell_text_without_a_destination_is_none() {
    for line in [
        "",
        "# export ANTHROPIC_BASE_URL=https://api.z.ai",
        "unset ANTHROPIC_BASE_URL",
        "export MY_ANTHROPIC_BASE_URL=https://api.z.ai",
        "echo $ANTHROPIC_BASE_URL",
        "export ANTHROPIC_BASE_URL=",
        "export ANTHROPIC_BASE_URL=$NOWHERE",
    ] {
        assert_eq!(found(line, &[]), [], "{line}");
    }
}

#[test]
fn two_aliases_keep_their_own_credentials() {
    let text = "alias a='ANTHROPIC_BASE_URL=https://a.example ANTHROPIC_AUTH_TOKEN=one claude'\n\
                alias b='ANTHROPIC_BASE_URL=https://b.example ANTHROPIC_AUTH_TOKEN=two claude'\n\
                alias c='ANTHROPIC_BASE_URL=https://c.example claude'";
    let found = found(text, &[]);
    let pairs: Vec<_> = found.iter().map(|(url, credential, _)| (url.as_str(), credential.as_deref())).collect();
    assert_eq!(pairs, [("https://a.example", Some("one")), ("https://b.example", Some("two")), ("https://c.example", None)]);
}

#[test]
fn record_comes_back_and_holds_no_credential() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(!Record::of(None, &[]).write(folder.path()).expect("written"), "nothing to record");
    let text = format!("alias glm='ANTHROPIC_BASE_URL={URL} ANTHROPIC_AUTH_TOKEN=zai-CANARY claude'");
    let named = in_shell_text(&text, Path::new("/h/.zshrc"), &|_| None);
    let own = BaseUrl::parse("https://gateway.example").expect("a URL");
    let record = Record::of(Some(&own), &named);
    assert!(record.write(folder.path()).expect("written"));
    assert!(!record.write(folder.path()).expect("written"), "nothing changed");
    let text = fs::read_to_string(folder.path().join(FILE)).expect("written");
    assert!(!text.contains("CANARY"), "{text}");
    let read = Record::read(folder.path());
    assert_eq!(read.base_url(), Some(own));
    assert_eq!(read.named()[0].digest, credential_digest(b"zai-CANARY"));
    assert_eq!(read.named()[0].base_url.to_string(), URL);
}
