//! The price list of Claude's models, written by hand from the provider's public prices. Never holds a price that nobody has published.

use crate::models::ClaudeModel;

use super::{Long, Price};

/// The day on which the list was checked.
pub const AS_OF: &str = "2026-11-22";

/// Models in the order of their generation: thousandths of a US dollar for a million tokens, which is billionths of one for each.
#[rustfmt::skip]
const LIST: [Row; 16] = [
    //   family    generation  input  output  5 min    hour   read
    row("haiku",  (4, 5),      1_000,  5_000,  1_250,  2_000,  100),
    row("sonnet", (4, 5),      3_000, 15_000,  3_750,  6_000,  300),
    row("opus",   (4, 5),      5_000, 25_000,  6_250, 10_000,  500),
    row("sonnet", (4, 6),      3_000, 15_000,  3_750,  6_000,  300),
    row("opus",   (4, 6),      5_000, 25_000,  6_250, 10_000,  500),
    row("opus",   (4, 7),      5_000, 25_000,  6_250, 10_000,  500),
    row("opus",   (4, 8),      5_000, 25_000,  6_250, 10_000,  500),
    row("sonnet", (5, 0),      2_000, 10_000,  2_500,  4_000,  200),
    row("opus",   (5, 0),      5_000, 25_000,  6_250, 10_000,  500),
    row("fable",  (5, 0),     10_000, 50_000, 12_500, 20_000, 1_000),
    row("fable",  (5, 1),     10_000, 50_000, 12_500, 20_000,  250),
    row("haiku",  (5, 5),        100,    500,    125,    200,   10).five_times_above_100k(),
    row("sonnet", (5, 5),      2_000, 10_000,  2_500,  4_000,  100),
    row("opus",   (5, 5),      4_000, 20_000,  5_000,  8_000,  200),
    row("mythos", (5, 0),     10_000, 50_000, 12_500, 20_000, 1_000),
    row("mythos", (5, 1),     10_000, 50_000, 12_500, 20_000,  250),
];

struct Row {
    family: &'static str,
    generation: (u8, u8),
    price: Price,
}

const fn row(family: &'static str, generation: (u8, u8), input: u64, output: u64, write_5m: u64, write_1h: u64, read: u64) -> Row {
    Row { family, generation, price: Price { input, output, write_5m, write_1h, read, long: None } }
}

impl Row {
    const fn five_times_above_100k(self) -> Self {
        Self { price: Price { long: Some(Long { above: 100_000, times: 5 }), ..self.price }, ..self }
    }
}

pub(super) fn price(model: ClaudeModel) -> Option<Price> {
    let listed = |row: &&Row| row.family == model.family && row.generation == (model.major, model.minor);
    LIST.iter().find(listed).map(|row| row.price)
}
