//! `config show`, `get` and `explain`: values with the place they come from, and what keys mean. Never shows a credential.

use std::fmt::Write as _;
use std::io::stdout;

use hotspare_config::{Diagnostic, Effective, Inspection, KeyPath, Origin, Severity, explain as explained, inspect};
use serde_json::{Value, json};

use super::{key as parsed, unknown};
use crate::cli::Layers;
use crate::commands::{self, trust};
use crate::error::{CliError, Exit};
use crate::output::{self, Paint, Style};

/// The version of what `--json` prints.
const VERSION: u32 = 1;

fn inspected(layers: &Layers) -> Result<Inspection, CliError> {
    let locations = commands::locations(layers.config.clone())?;
    inspect(&locations, &commands::context(layers)?).map_err(|errors| commands::invalid(&errors))
}

/// Every value.
pub(crate) fn show(layers: &Layers, with_origin: bool, as_json: bool) -> Result<(), CliError> {
    let inspection = inspected(layers)?;
    if as_json {
        let values: Vec<Value> = inspection
            .values
            .iter()
            .map(|value| json!({ "key": value.key.to_string(), "value": value.value, "origin": origin_json(&value.origin) }))
            .collect();
        let projects: Vec<Value> = inspection
            .config
            .projects
            .iter()
            .map(|project| json!({ "file": project.file, "layer": project.layer.word(), "trust": trust::words(project.trusted), "refused": project.refused }))
            .collect();
        let sources: Vec<String> = inspection.config.sources.iter().map(|source| source.display().to_string()).collect();
        return Ok(output::data(&json!({ "version": VERSION, "sources": sources, "projects": projects, "values": values }).to_string())?);
    }
    let paint = Paint(output::colored(&stdout()));
    let lines: Vec<String> = inspection.values.iter().map(|value| line(value, with_origin, paint)).collect();
    output::data(&lines.join("\n"))?;
    for project in &inspection.config.projects {
        output::talk(&format!("{}: {}", project.file.display(), trust::words(project.trusted)));
    }
    Ok(())
}

fn line(value: &Effective, with_origin: bool, paint: Paint) -> String {
    let is_default = value.origin == Origin::Default;
    let text = format!("{} = {}", value.key, value.value);
    let text = if is_default { paint.paint(Style::Dim, &text) } else { text };
    if with_origin { format!("{text}  {}", paint.paint(Style::Cyan, &origin_words(&value.origin))) } else { text }
}

fn origin_words(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::Text { layer, place, line, column } => format!("{}:{line}:{column} ({layer})", place.display()),
    }
}

fn origin_json(origin: &Origin) -> Value {
    match origin {
        Origin::Default => json!({ "layer": "default" }),
        Origin::Text { layer, place, line, column } => json!({ "layer": layer.word(), "place": place, "line": line, "column": column }),
    }
}

/// One value, or all that is in an object.
pub(crate) fn get(key: &str, layers: &Layers, as_json: bool) -> Result<(), CliError> {
    let key = parsed(key)?;
    let inspection = inspected(layers)?;
    let Some(value) = inspection.get(&key) else {
        let what = explained(&key).map_err(|meant| unknown(&key, meant.as_ref()))?;
        let error = CliError::new(Exit::Failed, format!("`{key}` is not set"));
        return Err(match what.default {
            Some(default) => error.hint(format!("its default is {default}")),
            None => error,
        });
    };
    if as_json {
        let origin = inspection.origin(&key).map(origin_json);
        return Ok(output::data(&json!({ "version": VERSION, "key": key.to_string(), "value": value, "origin": origin }).to_string())?);
    }
    match value {
        Value::String(text) => output::data(&text)?,
        value => output::data(&value.to_string())?,
    }
    Ok(())
}

/// What a key is, and what holds for it now.
pub(crate) fn explain(key: &str, as_json: bool) -> Result<(), CliError> {
    let key = parsed(key)?;
    let what = explained(&key).map_err(|meant| unknown(&key, meant.as_ref()))?;
    // A broken configuration is no reason to explain nothing.
    let inspection = inspected(&Layers::default()).ok();
    let now = inspection.as_ref().and_then(|inspection| Some((inspection.get(&key)?, inspection.origin(&key)?)));
    if as_json {
        let words: Vec<Value> = what.words.iter().map(|(word, meaning)| json!({ "word": word, "meaning": meaning })).collect();
        let keys: Vec<Value> = what.keys.iter().map(|(key, first)| json!({ "key": key, "description": first })).collect();
        let now = now.map(|(value, origin)| json!({ "value": value, "origin": origin_json(origin) }));
        let told = json!({ "version": VERSION, "key": key.to_string(), "description": what.description, "takes": what.takes, "default": what.default,
            "words": words, "examples": what.examples, "keys": keys, "now": now });
        return Ok(output::data(&told.to_string())?);
    }
    Ok(output::data(&told(&key, &what, now, Paint(output::colored(&stdout()))))?)
}

fn told(key: &KeyPath, what: &hotspare_config::Explained, now: Option<(Value, &Origin)>, paint: Paint) -> String {
    let mut text = format!("{}\n  {}\n", paint.paint(Style::Bold, &key.to_string()), what.description);
    let mut row = |name: &str, value: &str| {
        let _ = write!(text, "\n  {name:<8} {value}");
    };
    row("takes", &what.takes);
    if let Some(default) = &what.default {
        row("default", default);
    }
    for example in &what.examples {
        row("example", example);
    }
    if let Some((value, origin)) = now {
        row("now", &format!("{value}  {}", origin_words(origin)));
    }
    let width = what.words.iter().chain(&what.keys).map(|(word, _)| word.len()).max().unwrap_or_default();
    for (title, list) in [("words", &what.words), ("keys", &what.keys)].into_iter().filter(|(_, list)| !list.is_empty()) {
        let _ = write!(text, "\n\n  {title}");
        for (word, meaning) in list {
            let _ = write!(text, "\n    {word:<width$}  {meaning}");
        }
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// One diagnostic for programs.
pub(crate) fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let place = diagnostic.line_column();
    json!({
        "code": diagnostic.code,
        "severity": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
        "title": diagnostic.title,
        "file": diagnostic.file,
        "layer": diagnostic.layer.map(hotspare_config::Layer::word),
        "line": place.map(|(line, _)| line),
        "column": place.map(|(_, column)| column),
        "label": diagnostic.label,
        "help": diagnostic.help,
        "notes": diagnostic.notes,
    })
}
