//! `profile import`: what is made of each format, and that nothing but our own file ever changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::home::Home;

const FILE: &str = ".config/hotspare/config.json";

/// Everything in the home folder but what is ours.
fn theirs(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if entry.ends_with("hotspare") {
                continue;
            }
            if entry.is_dir() { collect(&entry, found) } else { drop(found.insert(entry.clone(), fs::read(&entry).expect("read"))) }
        }
    }
    let mut found = BTreeMap::new();
    collect(&home.path(""), &mut found);
    found
}

fn profiles(home: &Home) -> Value {
    let shown = home.runs(&["config", "get", "profiles"]).out;
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

#[track_caller]
fn imports(home: &Home, paths: &[&str]) -> String {
    let before = theirs(home);
    let path = |path: &&str| if path.starts_with("--") { (*path).to_owned() } else { home.path(path).display().to_string() };
    let paths: Vec<String> = paths.iter().map(path).collect();
    let arguments: Vec<&str> = ["profile", "import", "--yes"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let ended = home.runs(&arguments);
    let told = ended.out + &ended.err;
    assert!(theirs(home) == before, "a source was changed");
    assert!(!told.contains("sk-") && !fs::read_to_string(home.path(FILE)).unwrap_or_default().contains("sk-"), "{told}");
    told
}

fn kept(home: &Home, name: &str) -> String {
    home.read(&format!(".local/state/hotspare/keychain/{name}"))
}

#[test]
fn a_folder_of_claude_code_is_named_and_not_copied() {
    let home = Home::new();
    home.write(".claude-work/settings.json", r#"{ "env": { "ANTHROPIC_API_KEY": "sk-ant-test-work" } }"#);
    home.write("elsewhere/settings.json", r#"{ "apiKeyHelper": "pass show claude" }"#);
    home.write(".zshrc", "# alias x='CLAUDE_CONFIG_DIR=~/nowhere claude'\nalias c2='CLAUDE_CONFIG_DIR=~/elsewhere claude'\n");
    home.write(".claude-glm/settings.json", r#"{ "env": { "ANTHROPIC_BASE_URL": "https://api.z.ai/api/anthropic", "ANTHROPIC_AUTH_TOKEN": "sk-test-glm", "ANTHROPIC_MODEL": "glm-5" } }"#);
    home.write(".claude-empty/notes", "");
    let told = imports(&home, &[]);
    assert!(told.contains("~/.claude-empty: it holds no login, key or helper"), "{told}");
    let folder = |name: &str| json!({ "auth": { "claude_config_dir": format!("~/{name}") } });
    assert_eq!(
        profiles(&home),
        json!({
            "glm": { "platform": "anthropic_compatible", "base_url": "https://api.z.ai/api/anthropic", "auth": { "keychain": "glm" }, "models": { "claude-*": "glm-5" } },
            "work": folder(".claude-work"),
            "elsewhere": folder("elsewhere"),
        })
    );
    assert_eq!(kept(&home, "glm"), "sk-test-glm");
    // In the file as people write it.
    assert!(home.read(FILE).contains(r#""work": { "auth": { "claude_config_dir": "~/.claude-work" } }"#), "{}", home.read(FILE));
    // The same again adds nothing.
    let file = home.read(FILE);
    assert!(imports(&home, &[]).contains("`work` is the same as `work`"));
    assert_eq!(home.read(FILE), file);
}

#[test]
fn teamclaude_s_keys_come_along_and_its_logins_do_not() {
    let home = Home::new();
    home.write(
        ".config/teamclaude.json",
        r#"{ "proxy": { "port": 3456, "apiKey": "sk-tc" }, "upstream": "https://api.anthropic.com", "accounts": [
            { "name": "me@example.com (Acme)", "type": "oauth", "accessToken": "sk-ant-oat01-x", "refreshToken": "sk-ant-ort01-x" },
            { "name": "linked", "type": "oauth", "importFrom": "~/.claude-two/.credentials.json" },
            { "name": "Key 1", "type": "apikey", "apiKey": "sk-ant-test-key1" },
            { "name": "ds", "type": "apikey", "apiKey": "sk-test-ds", "upstream": "https://api.deepseek.com/anthropic", "modelMap": { "claude-sonnet-5-5": "deepseek-v4" } } ] }"#,
    );
    let told = imports(&home, &[".config/teamclaude.json"]);
    assert!(told.contains("two who renew one login end it"), "{told}");
    assert_eq!(
        profiles(&home),
        json!({
            "linked": { "auth": { "claude_config_dir": "~/.claude-two" } },
            "key-1": { "auth": { "keychain": "key-1" } },
            "ds": { "platform": "anthropic_compatible", "base_url": "https://api.deepseek.com/anthropic", "auth": { "keychain": "ds", "header": "x-api-key" }, "models": { "claude-sonnet-5-5": "deepseek-v4" } },
        })
    );
    assert_eq!(kept(&home, "key-1"), "sk-ant-test-key1");
}

#[test]
fn claude_code_router_s_providers_come_along_where_they_speak_anthropic_s_format() {
    let home = Home::new();
    home.write(
        ".claude-code-router/config.json",
        r#"{ "APIKEY": "sk-own", "Providers": [
            { "name": "openrouter", "api_base_url": "https://openrouter.ai/api/v1/chat/completions", "api_key": "$OPENROUTER_API_KEY", "models": ["anthropic/claude-opus-5", "x"] },
            { "name": "ollama", "api_base_url": "http://localhost:11434/v1/chat/completions", "api_key": "ollama", "models": ["qwen"] },
            { "name": "gw", "api_base_url": "https://gw.example/claude/v1/messages", "api_key": "sk-test-gw", "models": ["m"] },
            { "name": "bearer", "api_base_url": "https://other.example/v1/messages", "api_key": "sk-test-other", "transformer": { "use": [["Anthropic", { "useBearer": true }]] } } ],
          "Router": { "default": "gw,claude-sonnet-5-5" } }"#,
    );
    let told = imports(&home, &[]);
    assert!(told.contains("`ollama` speaks OpenAI's Chat Completions format"), "{told}");
    assert_eq!(
        profiles(&home),
        json!({
            "openrouter": { "platform": "openrouter", "auth": { "env": "OPENROUTER_API_KEY" }, "models": { "claude-fable-*": null, "claude-sonnet-*": null, "claude-haiku-*": null } },
            "gw": { "platform": "anthropic_compatible", "base_url": "https://gw.example/claude", "auth": { "keychain": "gw", "header": "x-api-key" } },
            "bearer": { "platform": "anthropic_compatible", "base_url": "https://other.example", "auth": { "keychain": "bearer" } },
        })
    );
}

#[test]
fn databases_of_cc_switch_better_ccflare_and_the_router_are_read_as_they_are() {
    let home = Home::new();
    home.write(".cc-switch/config.json", r#"{ "version": 2, "claude": { "current": "a", "providers": { "a": { "id": "a", "name": "Mini Max", "settingsConfig": { "env": { "ANTHROPIC_BASE_URL": "https://api.minimax.io/anthropic", "ANTHROPIC_AUTH_TOKEN": "sk-test-mm", "ANTHROPIC_MODEL": "MiniMax-M3" } } }, "b": { "id": "b", "name": "Official", "settingsConfig": { "env": {} } } } } }"#);
    let make = |file: &str, sql: &str| {
        fs::create_dir_all(home.path(file).parent().expect("a folder")).expect("made");
        rusqlite::Connection::open(home.path(file)).expect("opened").execute_batch(sql).expect("made");
    };
    make(
        ".cc-switch/cc-switch.db",
        r#"CREATE TABLE providers (id TEXT, app_type TEXT, name TEXT, settings_config TEXT);
           INSERT INTO providers VALUES ('1', 'claude', 'Kimi', '{"env":{"ANTHROPIC_BASE_URL":"https://gw.example","ANTHROPIC_AUTH_TOKEN":"sk-test-kimi"}}'), ('2', 'codex', 'Other', '{}');"#,
    );
    make(
        ".config/better-ccflare/better-ccflare.db",
        "CREATE TABLE accounts (id TEXT, name TEXT, provider TEXT, api_key TEXT, refresh_token TEXT, custom_endpoint TEXT, model_mappings TEXT);
         INSERT INTO accounts VALUES ('1', 'console', 'claude-console-api', 'sk-ant-test-console', '', NULL, NULL), ('2', 'max', 'anthropic', NULL, 'sk-r', NULL, NULL),
           ('3', 'glm', 'zai', NULL, 'sk-test-glm', NULL, '{\"opus\":\"glm-5\",\"claude-haiku-4-5\":[\"glm-4.5-air\",\"glm-4\"]}'),
           ('4', 'mm', 'minimax', 'sk-test-mm2', '', 'https://not-asked.example', '{\"sonnet\":\"MiniMax-M3\"}'),
           ('5', 'own-gw', 'anthropic-compatible', 'sk-test-own', '', 'https://own.example/llm', NULL),
           ('6', 'gpt', 'openai-compatible', 'sk-test-gpt', '', 'https://gpt.example', NULL), ('7', 'bare', 'zai', 'sk-test-bare', '', NULL, NULL);",
    );
    make(
        ".claude-code-router/config.sqlite",
        r#"CREATE TABLE app_config (key TEXT PRIMARY KEY, value_json TEXT, updated_at TEXT);
           INSERT INTO app_config VALUES ('default', '{"Providers":[{"name":"direct","type":"anthropic_messages","baseUrl":"https://direct.example","api_key":"sk-test-direct"}]}', '');"#,
    );
    let told = imports(&home, &[]);
    assert!(
        told.contains("`gpt` speaks OpenAI's Chat Completions format")
            && told.contains("`profiles.bare` does not say what the provider calls"),
        "{told}"
    );
    assert!(told.contains("`max` is a login that its tool keeps") && told.contains("`Official` is the client's own login"), "{told}");
    let profiles = profiles(&home);
    let names: Vec<&String> = profiles.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["direct", "kimi", "mini-max", "console", "glm", "mm", "own-gw"]);
    // As better-ccflare sends it.
    for (name, address) in
        [("glm", "https://api.z.ai/api/anthropic"), ("mm", "https://api.minimax.io/anthropic"), ("own-gw", "https://own.example/llm")]
    {
        assert_eq!((&profiles[name]["auth"]["header"], &profiles[name]["base_url"]), (&"x-api-key".into(), &address.into()), "{name}");
    }
    assert_eq!(profiles["console"]["auth"].get("header"), None, "Anthropic tells a key by its form");
    assert_eq!(kept(&home, "glm"), "sk-test-glm");
    assert_eq!(profiles["glm"]["models"], json!({ "claude-opus-*": "glm-5", "claude-haiku-4-5": "glm-4.5-air" }));
    assert_eq!((kept(&home, "console").as_str(), kept(&home, "kimi").as_str()), ("sk-ant-test-console", "sk-test-kimi"));
}

#[test]
fn an_older_database_of_better_ccflare_without_model_maps_is_read_too() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config/better-ccflare")).expect("made");
    let database = rusqlite::Connection::open(home.path(".config/better-ccflare/better-ccflare.db")).expect("opened");
    let sql = "CREATE TABLE accounts (id TEXT, name TEXT, provider TEXT, api_key TEXT, refresh_token TEXT, custom_endpoint TEXT);
        INSERT INTO accounts VALUES ('1', 'old-gw', 'anthropic-compatible', NULL, 'sk-test-old', 'https://old.example');";
    database.execute_batch(sql).expect("made");
    imports(&home, &[]);
    assert_eq!(profiles(&home)["old-gw"]["auth"]["header"], "x-api-key");
    assert_eq!(kept(&home, "old-gw"), "sk-test-old");
}

#[test]
fn litellm_s_models_come_along_by_address_and_key() {
    let home = Home::new();
    home.write(
        ".config/litellm/config.yaml",
        r#"
common: &common { rpm: 6, api_key: os.environ/OPENROUTER_API_KEY }
model_list:
  - model_name: claude-opus-4-5
    litellm_params: { model: anthropic/claude-opus-4-5-20251101, api_key: sk-ant-test-litellm }
  - model_name: claude-*
    litellm_params: { model: claude-sonnet-4-5, api_key: sk-ant-test-litellm }
  - model_name: claude-sonnet-4-5   # a group of two: the first counts
    litellm_params: { <<: *common, model: openrouter/anthropic/claude-sonnet-4.5 }
  - model_name: claude-sonnet-4-5
    litellm_params: { <<: *common, model: openrouter/anthropic/claude-sonnet-4 }
  - model_name: claude-haiku-*
    litellm_params: { model: anthropic/fast, api_base: "https://gw.example/claude/v1/messages", litellm_credential_name: gateway }
  - model_name: claude-haiku-4-5
    litellm_params: { model: glm-4.7, custom_llm_provider: zai }
  - model_name: m3
    litellm_params:
      model: minimax/MiniMax-M3
      api_base: os.environ/MM_BASE
      api_key: os.environ/MM_KEY
  - { model_name: gpt, litellm_params: { model: azure/gpt-5, api_base: "https://x.example", api_key: sk-test-azure } }
  - { model_name: gpt2, litellm_params: { model: azure/gpt-5-mini, api_key: sk-test-azure } }
  - { model_name: ds, litellm_params: { model: deepseek/deepseek-v4, api_base: "https://api.deepseek.com/v1" } }
  - { model_name: bare, litellm_params: { model: anthropic/x, api_base: "https://bare.example" } }
  - { model_name: where, litellm_params: { model: anthropic/x, api_base: os.environ/NOWHERE } }
  - { model_name: who, litellm_params: { model: some-model } }
  - { model_name: none }
credential_list:
  - credential_name: gateway
    credential_values: { api_key: sk-test-gateway }
general_settings: { master_key: sk-test-master }
environment_variables:
  MM_BASE: https://api.minimax.io/anthropic
  MM_KEY: sk-test-minimax
"#,
    );
    let told = imports(&home, &[]);
    for why in [
        "`gpt` is a model of `azure`, which speaks OpenAI's Chat Completions format",
        "`gpt2` is a model of `azure`",
        "`ds` has an address of its own for `deepseek`",
        "`bare` has an address and no key",
        "`where` has its address in the variable `NOWHERE`",
        "`who` does not say who its provider is",
        "`none` names no model",
    ] {
        assert_eq!(told.matches(why).count(), 1, "{why}: {told}");
    }
    assert_eq!(
        profiles(&home),
        json!({
            "anthropic": { "auth": { "keychain": "anthropic" } },
            "openrouter": { "platform": "openrouter", "auth": { "env": "OPENROUTER_API_KEY" }, "models": { "claude-sonnet-4-5": "anthropic/claude-sonnet-4.5", "claude-*": null } },
            "gw.example": { "platform": "anthropic_compatible", "base_url": "https://gw.example/claude", "auth": { "keychain": "gw.example", "header": "x-api-key" }, "models": { "claude-haiku-*": "fast" } },
            "zai": { "platform": "anthropic_compatible", "base_url": "https://api.z.ai/api/anthropic", "auth": { "env": "ZAI_API_KEY" }, "models": { "claude-haiku-4-5": "glm-4.7" } },
            "minimax": { "platform": "anthropic_compatible", "base_url": "https://api.minimax.io/anthropic", "auth": { "keychain": "minimax" }, "models": { "m3": "MiniMax-M3" } },
        })
    );
    assert_eq!((kept(&home, "anthropic").as_str(), kept(&home, "minimax").as_str()), ("sk-ant-test-litellm", "sk-test-minimax"));
    assert_eq!(kept(&home, "gw.example"), "sk-test-gateway");
}

/// Most users of several folders want them behind the one that they use.
#[test]
fn what_is_imported_as_a_spare_is_asked_after_the_client_s_own_login() {
    let home = Home::new();
    for name in [".claude-work", ".claude_two", ".claudette"] {
        home.write(&format!("{name}/settings.json"), r#"{ "apiKeyHelper": "pass show claude" }"#);
    }
    home.write(".zshrc", "alias c='CLAUDE_CONFIG_DIR=~/.claudette claude'\n");
    let told = imports(&home, &["--spare"]);
    assert!(told.contains("chain: claude → work → two → claudette"), "{told}");
    // One warning in full, and a line for each further one.
    assert_eq!((told.matches("HS0408").count(), told.matches("read the provider's terms first").count()), (3, 1), "{told}");
    assert!(home.runs(&["config", "undo"]).out.contains("is gone again"));
    let told = imports(&home, &[]);
    assert!(told.contains("no chain asks them yet"), "{told}");
    let valid = home.runs(&["config", "validate"]).out;
    assert!(valid.contains("ok ~/.config/hotspare/config.json\n  no policy names a profile"), "{valid}");
}

/// Whoever has written down a folder, under a name of their own and in whichever spelling, gets no second profile of it.
#[test]
fn a_folder_that_a_profile_names_is_there_already() {
    let home = Home::new();
    home.write(".claude-work/settings.json", r#"{ "apiKeyHelper": "pass show claude" }"#);
    for folder in ["~/.claude-work".to_owned(), home.path(".claude-work").display().to_string()] {
        let config = json!({ "failover_policy": { "primary_profile": "mine" }, "profiles": { "mine": { "auth": { "claude_config_dir": folder } } } });
        home.write(FILE, &config.to_string());
        assert!(imports(&home, &[]).contains("is the same as `mine`"));
    }
}

/// Which of its models stands for Claude's is in nobody's file.
#[test]
fn what_makes_no_profile_is_told_why() {
    let home = Home::new();
    home.write(
        ".claude-glm/settings.json",
        r#"{ "env": { "ANTHROPIC_BASE_URL": "https://api.z.ai/api/anthropic", "ANTHROPIC_AUTH_TOKEN": "sk-test-glm" } }"#,
    );
    let told = imports(&home, &[]);
    assert!(told.contains("`profiles.glm` does not say what the provider calls the models: map them"), "{told}");
    assert!(told.contains("`hotspare profile add glm …`") && told.contains("nothing to import"), "{told}");
}

/// Claude Code sends a key of its settings as `x-api-key` and a token as Bearer: so does the profile.
#[test]
fn a_key_keeps_the_header_that_it_went_in() {
    let home = Home::new();
    for (name, variable) in [("key", "ANTHROPIC_API_KEY"), ("token", "ANTHROPIC_AUTH_TOKEN")] {
        let settings = json!({ "env": { "ANTHROPIC_BASE_URL": "https://gw.example", (variable): "sk-test-gw" } });
        home.write(&format!(".claude-{name}/settings.json"), &settings.to_string());
    }
    imports(&home, &[]);
    let profile = |auth: Value| json!({ "platform": "anthropic_compatible", "base_url": "https://gw.example", "auth": auth });
    let (key, token) = (json!({ "keychain": "key", "header": "x-api-key" }), json!({ "keychain": "key" }));
    assert_eq!(profiles(&home), json!({ "key": profile(key), "token": profile(token) }));
}

/// A file may come from anywhere: what it says is shown without what would move a terminal's cursor.
#[test]
fn names_of_a_source_are_shown_without_control_characters() {
    let home = Home::new();
    home.write("a.yaml", "model_list: [{ model_name: \"\\e[2Jx\", litellm_params: { model: \"\\e]0;\\a\" } }]\n");
    home.write("b.json", r#"{ "Providers": [{ "name": "\u001b[2Jx" }] }"#);
    let ended = home.run(&["profile", "import", &home.path("a.yaml").display().to_string(), &home.path("b.json").display().to_string()]);
    assert!(ended.out.contains("does not say who its provider is") && ended.out.contains("has no address"), "{}", ended.out);
    assert!(!ended.out.chars().any(|char| char.is_control() && char != '\n'), "{:?}", ended.out);
}

#[test]
fn nothing_is_changed_without_the_user_s_word_and_a_taken_name_gets_a_number() {
    let home = Home::new();
    let text = "{\n  // mine\n  \"failover_policy\": { \"primary_profile\": \"work\" },\n  \"profiles\": { \"work\": {} }\n}\n";
    home.write(FILE, text);
    home.write(".claude-work/settings.json", r#"{ "env": { "ANTHROPIC_API_KEY": "sk-ant-test-work" } }"#);
    let refused = home.run(&["profile", "import"]);
    assert!(refused.code == 1 && refused.err.contains("`--yes` agrees to it"), "{}", refused.err);
    let shown = home.runs(&["profile", "import", "--dry-run"]).out;
    assert!(
        shown.contains("~/.claude-work\n  + work-2: `work`, api.anthropic.com, what Claude Code keeps in ~/.claude-work")
            && shown.contains("+ "),
        "{shown}"
    );
    assert_eq!(home.read(FILE), text);
    imports(&home, &[]);
    assert!(home.read(FILE).starts_with("{\n  // mine\n") && home.read(FILE).contains("\"work-2\""));
    // Garbage is named and left alone.
    home.write("other.yaml", "services: {}\n");
    home.write("junk.yaml", "a: [\n");
    home.write("junk.json", "\u{0}{");
    let told = imports(&home, &["other.yaml", "junk.yaml", "junk.json", "none.json"]);
    for why in ["it has no `model_list`", "it is not YAML", "it is not JSON", "no such file"] {
        assert!(told.contains(why), "{why}: {told}");
    }
}

/// A failure after the keys were stored leaves nothing of them behind.
#[cfg(unix)]
#[test]
fn import_that_cannot_write_its_file_stores_no_key() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config")).expect("made");
    // A link that leads nowhere: there is no configuration, and none can be made.
    std::os::unix::fs::symlink("nowhere/at/all", home.path(".config/hotspare")).expect("linked");
    home.write(
        "config.json",
        r#"{ "Providers": [{ "name": "gw", "api_base_url": "https://gw.example/v1/messages", "api_key": "sk-test-gw" }] }"#,
    );
    let ended = home.run(&["profile", "import", "--yes", &home.path("config.json").display().to_string()]);
    assert!(ended.code == 1 && ended.err.contains("configuration and keychain are as they were"), "{}: {}", ended.code, ended.err);
    let left = fs::read_dir(home.path(".local/state/hotspare/keychain")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

/// Stored values of others, and of one's own under another name, stay.
#[test]
fn import_replaces_no_stored_key_and_no_profile() {
    let home = Home::new();
    home.write(".local/state/hotspare/keychain/gw", "sk-test-older");
    std::fs::set_permissions(home.path(".local/state/hotspare/keychain/gw"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("set");
    let router = |key: &str| {
        json!({ "Providers": [{ "name": "gw", "api_base_url": "https://gw.example/v1/messages", "api_key": key }] }).to_string()
    };
    home.write("config.json", &router("sk-test-one"));
    let told = imports(&home, &["config.json"]);
    assert!(told.contains("the keychain's entry `gw` holds something else and stays as it is"), "{told}");
    assert_eq!((kept(&home, "gw"), kept(&home, "gw-2")), ("sk-test-older".to_owned(), "sk-test-one".to_owned()));
    // The key was rotated there: both are kept, until `--replace` says which one the profile uses.
    home.write("config.json", &router("sk-test-two"));
    let told = imports(&home, &["config.json"]);
    assert!(told.contains("`gw` has another key for the same address: if this one takes its place, import with `--replace`"), "{told}");
    assert_eq!(profiles(&home)["gw-2"]["auth"]["keychain"], "gw-2-2");
    home.runs(&["config", "undo"]);
    let told = imports(&home, &["--replace", "config.json"]);
    assert!(told.contains("~ gw: gets the new key, as `gw-3` in the keychain; the old one stays there"), "{told}");
    assert_eq!((kept(&home, "gw"), kept(&home, "gw-2")), ("sk-test-older".to_owned(), "sk-test-one".to_owned()));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Whatever a source holds, it is only read, and our file stays valid.
    #[test]
    fn a_source_is_never_changed(name in "[ -~]{0,12}", url in "(https://[a-z]{1,8}\\.example(/v1/messages)?|[ -~]{0,20})", key in "[!-~]{0,16}") {
        let home = Home::new();
        let router = json!({ "Providers": [{ "name": name, "api_base_url": url, "api_key": key, "type": "anthropic_messages" }] });
        home.write("config.json", &router.to_string());
        let parameters = json!({ "model": format!("anthropic/{name}"), "api_base": url, "api_key": key });
        home.write("config.yaml", &json!({ "model_list": [{ "model_name": name, "litellm_params": parameters }] }).to_string());
        home.write(".claude-x/settings.json", &json!({ "env": { "ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key, "ANTHROPIC_MODEL": name } }).to_string());
        let before = theirs(&home);
        home.run(&["profile", "import", "--yes", &home.path("config.json").display().to_string(), &home.path("config.yaml").display().to_string(), &home.path(".claude-x").display().to_string()]);
        proptest::prop_assert!(theirs(&home) == before);
        proptest::prop_assert_eq!(home.run(&["config", "validate"]).code, 0);
    }
}
