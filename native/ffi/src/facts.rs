//! What the library says of itself, so that nobody states it again: methods, operations, bounds of settings.

use base::setting::Number;
use serde_json::{Map, Value, json};
use wire::Method;
use wire::op::{Operation, Retry, TABLE};

/// `{"methods": {name: number}, "operations": [{name, number, kind, once, level}], "limits": {role: {setting: {least,
/// most, default}}}}`.
pub fn facts() -> Value {
    let methods: Map<String, Value> =
        Method::ALL.iter().map(|method| (method.name().to_string(), json!(*method as u16))).collect();
    json!({
        "methods": methods,
        "operations": TABLE.iter().map(operation).collect::<Vec<_>>(),
        "limits": {
            "master": limits(master::NUMBERS),
            "chunkserver": limits(chunkserver::NUMBERS),
            "client": limits(client::NUMBERS),
            "mount": limits(fuse::NUMBERS),
        },
    })
}

fn operation(row: &Operation) -> Value {
    json!({
        "name": row.name,
        "number": row.number,
        "kind": row.kind.name(),
        "once": row.retry == Retry::Once,
        "level": row.level,
    })
}

fn limits<C>(numbers: &[Number<C>]) -> Map<String, Value> {
    let one = |number: &Number<C>| {
        let limit = number.limit;
        (limit.name.to_string(), json!({"least": limit.least, "most": limit.most, "default": limit.default}))
    };
    numbers.iter().map(one).collect()
}
