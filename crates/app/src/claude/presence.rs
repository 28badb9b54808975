//! Decides what an interactive client shows of us while one run lasts: our status line around the user's own, and a message for each move.
//! Never takes the place of something that the user or a project has set, and never writes a file.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::wiring::claude::{NOTICES, REFRESH, REFRESH_INTERVAL, WRAPPED_REFRESH_INTERVAL, is_our_statusline, statusline_command};
use crate::wiring::shell::Shell;

/// The client's setting for its status line.
const STATUS_LINE: &str = "statusLine";

/// When the client asks whether there is something to tell: before a prompt goes out, and when a turn is over. A run is new at its session's
/// start, and has nothing to tell then.
const MOMENTS: [&str; 2] = ["UserPromptSubmit", "Stop"];

/// Seconds that the client gives the hook. It takes milliseconds; see `commands/notices.rs`.
const HOOK_TIME: u64 = 5;

/// A project's settings, which outrank the user's own. In its folder alone: where the client looks further up, ours comes before those.
pub(super) const OF_PROJECT: [&str; 2] = [".claude/settings.local.json", ".claude/settings.json"];

/// Puts it into what the client is given for this run, beside whatever the user gives it there.
pub(super) fn add(given: &mut Map<String, Value>, user: &Map<String, Value>, project: &Path, program: &str) {
    if !given.contains_key(STATUS_LINE)
        && !has_status_line(project)
        && let Some(line) = status_line(user.get(STATUS_LINE), program)
    {
        given.insert(STATUS_LINE.to_owned(), line);
    }
    let Value::Object(hooks) = given.entry("hooks").or_insert_with(|| json!({})) else { return };
    let command = format!("{} {NOTICES} 2>/dev/null || true", Shell::Bash.quoted(program));
    for moment in MOMENTS {
        // The client joins the hooks of all its settings.
        if let Value::Array(entries) = hooks.entry(moment).or_insert_with(|| json!([])) {
            entries.push(json!({ "hooks": [{ "type": "command", "command": command, "timeout": HOOK_TIME }] }));
        }
    }
}

/// Ours around the user's own, with all else that they have set of it. None where ours is there already, or where theirs is no command.
fn status_line(own: Option<&Value>, program: &str) -> Option<Value> {
    let Some(own) = own else {
        return Some(json!({ "type": "command", "command": statusline_command(program, None), REFRESH: REFRESH_INTERVAL }));
    };
    let command = own["command"].as_str().filter(|command| own["type"] == "command" && !is_our_statusline(command))?;
    let mut line = own.clone();
    line["command"] = statusline_command(program, Some(command)).into();
    if line.get(REFRESH).is_none() {
        line[REFRESH] = WRAPPED_REFRESH_INTERVAL.into();
    }
    Some(line)
}

/// Whether the project shows a line of its own. What a stranger's project wants to run is the client's to ask about, and not ours to start.
fn has_status_line(project: &Path) -> bool {
    let settings = OF_PROJECT.iter().filter_map(|file| std::fs::read_to_string(project.join(file)).ok());
    let mut settings = settings.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
    settings.any(|settings| settings.get(STATUS_LINE).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "'/opt/my tools/hotspare' statusline";

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    fn added(given: Value, user: Value, project: Option<Value>) -> Value {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if let Some(project) = project {
            std::fs::create_dir(folder.path().join(".claude")).expect("made");
            std::fs::write(folder.path().join(OF_PROJECT[0]), project.to_string()).expect("written");
        }
        let mut given = object(given);
        add(&mut given, &object(user), folder.path(), "/opt/my tools/hotspare");
        Value::Object(given)
    }

    fn line(given: Value, user: Value, project: Option<Value>) -> Value {
        added(given, user, project)[STATUS_LINE].take()
    }

    #[test]
    fn our_status_line_stands_alone_or_around_the_user_s_own() {
        assert_eq!(line(json!({}), json!({}), None), json!({ "type": "command", "command": OURS, "refreshInterval": 5 }));
        let own = json!({ "statusLine": { "type": "command", "command": "mine" } });
        assert_eq!(line(json!({}), own, None)["refreshInterval"], 10, "theirs may cost more than ours");
        let own = json!({ "statusLine": { "type": "command", "command": "it's mine", "padding": 0, "refreshInterval": 5 } });
        let wrapped = json!({ "type": "command", "command": format!(r"{OURS} --wrap 'it'\''s mine'"), "padding": 0, "refreshInterval": 5 });
        assert_eq!(line(json!({}), own, None), wrapped);
    }

    #[test]
    fn what_the_user_gives_a_project_shows_or_install_has_put_there_stays() {
        let named = json!({ "statusLine": { "type": "command", "command": "theirs" } });
        assert_eq!(line(named.clone(), json!({}), None), named[STATUS_LINE]);
        assert_eq!(line(json!({}), json!({}), Some(named.clone())), Value::Null);
        assert_eq!(line(json!({}), named.clone(), Some(named)), Value::Null);
        let installed = json!({ "statusLine": { "type": "command", "command": format!("{OURS} --wrap 'mine'") } });
        assert_eq!(line(json!({}), installed, None), Value::Null, "it finds this run by the client's own address");
        assert_eq!(line(json!({}), json!({ "statusLine": "off" }), None), Value::Null, "of a kind that is not known");
        assert_ne!(line(json!({}), json!({}), Some(json!({ "model": "opus" }))), Value::Null);
    }

    #[test]
    fn the_hooks_that_tell_of_moves_come_behind_the_user_s_own() {
        let own = json!({ "hooks": { "Stop": [{ "hooks": [{ "type": "command", "command": "mine" }] }], "PreCompact": [] } });
        let hooks = added(own, json!({}), None)["hooks"].take();
        let ours = json!({ "hooks": [{ "type": "command", "command": "'/opt/my tools/hotspare' notices --hook 2>/dev/null || true", "timeout": 5 }] });
        assert_eq!(hooks["Stop"][0]["hooks"][0]["command"], "mine");
        assert_eq!((&hooks["Stop"][1], &hooks["UserPromptSubmit"][0]), (&ours, &ours));
        assert_eq!(hooks["PreCompact"], json!([]));
        for odd in [json!({ "hooks": 5 }), json!({ "hooks": { "Stop": "x" } })] {
            let kept = added(odd.clone(), json!({}), None);
            assert!(kept["hooks"] == 5 || kept["hooks"]["Stop"] == "x", "the client's to complain about: {odd}");
        }
    }
}
