//! Checks a value against the part of JSON Schema that our schema uses. A keyword it does not know is a panic, never a pass.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// Whether the value fits the whole schema.
pub(crate) fn fits(root: &Value, value: &Value) -> bool {
    Validator { root }.fits(root, value)
}

struct Validator<'r> {
    root: &'r Value,
}

impl Validator<'_> {
    fn fits(&self, schema: &Value, value: &Value) -> bool {
        match schema {
            Value::Bool(anything) => *anything,
            Value::Object(keywords) => keywords.iter().all(|(keyword, argument)| self.keyword(keywords, keyword, argument, value)),
            other => panic!("not a schema: {other}"),
        }
    }

    fn keyword(&self, schema: &Map<String, Value>, keyword: &str, argument: &Value, value: &Value) -> bool {
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "examples" | "format" | "then" => true,
            "$ref" => self.fits(self.definition(argument), value),
            "type" => is_of_type(argument, value),
            "const" => argument == value,
            "enum" => list(argument).contains(value),
            "anyOf" => list(argument).iter().any(|choice| self.fits(choice, value)),
            "oneOf" => list(argument).iter().filter(|choice| self.fits(choice, value)).count() == 1,
            "if" => !self.fits(argument, value) || self.fits(&schema["then"], value),
            "minimum" => value.as_f64().is_none_or(|number| number >= argument.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|number| number <= argument.as_f64().expect("a number")),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= count(argument)),
            "pattern" => value.as_str().is_none_or(|text| Regex::new(argument.as_str().expect("text")).expect("a pattern").is_match(text)),
            "minItems" => value.as_array().is_none_or(|items| items.len() >= count(argument)),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| self.fits(argument, item))),
            "maxProperties" => value.as_object().is_none_or(|members| members.len() <= count(argument)),
            "required" => value.as_object().is_none_or(|members| list(argument).iter().all(|name| members.contains_key(text(name)))),
            "propertyNames" => {
                value.as_object().is_none_or(|members| members.keys().all(|name| self.fits(argument, &Value::from(name.as_str()))))
            }
            "properties" => members(value).all(|(name, member)| argument.get(name).is_none_or(|schema| self.fits(schema, member))),
            "additionalProperties" => {
                let named = schema.get("properties");
                members(value).all(|(name, member)| named.is_some_and(|named| named.get(name).is_some()) || self.fits(argument, member))
            }
            other => panic!("the validator does not know `{other}`"),
        }
    }

    fn definition(&self, reference: &Value) -> &Value {
        let pointer = text(reference).strip_prefix('#').expect("a local reference");
        self.root.pointer(pointer).expect("a definition")
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(types) => types.iter().any(|wanted| is_of_type(wanted, value)),
        wanted => match text(wanted) {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("the validator does not know the type `{other}`"),
        },
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).expect("small")
}
