//! Holds the built-in price list against another one, gathered by others. The list of theirs is no part of this project: where
//! `HOTSPARE_FIXTURES` does not name the folder that has it, this says so and checks nothing.
#![allow(clippy::print_stderr, reason = "a check that is left out is said to be")]

use std::path::PathBuf;

use hotspare_core::{Platform, Price};
use serde_json::Value;

/// Models of the list that have no price here, because nobody has told one for the first-party API.
const WITHOUT: [&str; 1] = ["claude-mythos-preview"];

/// Thousandths of a dollar for a million tokens.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
fn milli(entry: &Value, key: &str) -> Option<u64> {
    Some((entry.get(key)?.as_f64()? * 1e9).round() as u64)
}

#[test]
fn the_price_list_agrees_with_one_that_others_made() {
    let list = std::env::var_os("HOTSPARE_FIXTURES").map(|folder| PathBuf::from(folder).join("litellm-data/claude_models_prices.json"));
    let Some(text) = list.and_then(|list| std::fs::read_to_string(list).ok()) else {
        eprintln!("HOTSPARE_FIXTURES names no folder with a price list: the built-in one is not compared");
        return;
    };
    let list: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for (name, entry) in list.as_object().unwrap() {
        // Their names with a vendor, a region or a platform before them are other platforms' prices.
        if !name.starts_with("claude-") || name.contains([':', '@', '/']) || WITHOUT.contains(&name.as_str()) {
            continue;
        }
        let price = Price::of(Platform::Anthropic, name).unwrap_or_else(|| panic!("{name} has no price"));
        assert_eq!(Some(price.input), milli(entry, "input_cost_per_token"), "{name}");
        assert_eq!(Some(price.output), milli(entry, "output_cost_per_token"), "{name}");
        assert_eq!(Some(price.write_5m), milli(entry, "cache_creation_input_token_cost"), "{name}");
        assert_eq!(Some(price.write_1h), milli(entry, "cache_creation_input_token_cost_above_1hr"), "{name}");
        assert_eq!(Some(price.read), milli(entry, "cache_read_input_token_cost"), "{name}");
        let long = milli(entry, "input_cost_per_token_above_100k_tokens").map(|long| long / price.input);
        assert_eq!(price.long.map(|long| long.times), long, "{name}");
        compared += 1;
    }
    assert!(compared >= 16, "only {compared} models were compared");
}
