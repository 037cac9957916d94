//! Transitions of the declared state that the schema gives: each field whose values it knows, from one value to another. What the reader refuses, because
//! more than the schema decides, is left to the scenarios that are written by hand.

use std::path::Path;

use dockmaster::resource::Kind;
use dockmaster::source::select::FileContext;
use dockmaster::source::{parse, schema};
use serde_json::{Map, Value, json};

use super::super::folder::SOURCE;
use super::super::scenario::{Scenario, write};

const SHOP: &str = "alice/shop.yaml";

/// What stands beside a field so that it means something: where, and what.
fn company(place: &str) -> Value {
    match place {
        "" => json!({"image": "app:1", "command": ["sleep", "1000000"]}),
        "services.*" => json!({"image": "db:1", "command": ["sleep", "1000000"]}),
        "health" | "services.*.health" => json!({"test": ["CMD", "true"]}),
        "mounts[]" => json!({"volume": "data", "path": "/data"}),
        "ports[]" => json!({"name": "http", "container": 80}),
        "idle" => json!({"timeout": "10h"}),
        "runningHours" => json!({"from": "00:00", "to": "23:59"}),
        _ => json!({}),
    }
}

/// A field whose values the schema knows, and some of them.
struct Field {
    place: String,
    /// The way to it from `spec`: names, `*` for any name and `[]` for an entry of a list.
    steps: Vec<String>,
    values: Vec<Value>,
}

struct Walker<'a> {
    root: &'a Value,
    fields: Vec<Field>,
}

impl Walker<'_> {
    fn resolve<'v>(&'v self, mut schema: &'v Value) -> (&'v Value, &'v str) {
        let mut name = "";
        while let Some(target) = schema["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/")) {
            (schema, name) = (&self.root["$defs"][target], target);
        }
        (schema, name)
    }

    fn walk(&mut self, schema: &Value, steps: &[String]) {
        let (resolved, name) = self.resolve(schema);
        let (schema, name) = (resolved.clone(), name.to_owned());
        let place = place(steps);
        let below = |step: &str| [steps, &[step.to_owned()]].concat();
        let long = place.starts_with("idle") || place == "maxLifetime";
        let values = match (name.as_str(), schema["type"].as_str()) {
            _ if schema["oneOf"].is_array() => schema["oneOf"].as_array().unwrap().iter().map(|choice| choice["const"].clone()).collect(),
            ("Cpu", _) => vec![json!("0.5"), json!("1")],
            ("Bytes", _) => vec![json!("64m"), json!("128m")],
            ("Duration", _) if long => vec![json!("10h"), json!("20h")],
            ("Duration", _) => vec![json!("10s"), json!("20s")],
            (_, Some("boolean")) => vec![json!(false), json!(true)],
            (_, Some("integer")) => vec![json!(100), json!(101)],
            (_, Some("string")) if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains(":[0-5]")) => vec![json!("01:00"), json!("22:00")],
            (_, Some("object")) => {
                for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                    self.walk(property, &below(key));
                }
                if schema["additionalProperties"].is_object() {
                    self.walk(&schema["additionalProperties"], &below("*"));
                }
                return;
            }
            (_, Some("array")) => return self.walk(&schema["items"], &below("[]")),
            _ => return,
        };
        self.fields.push(Field { place, steps: steps.to_vec(), values });
    }
}

fn place(steps: &[String]) -> String {
    steps.join(".").replace(".[]", "[]")
}

/// The spec in which a field has that value.
fn spec(steps: &[String], depth: usize, value: &Value) -> Value {
    let Some(step) = steps.get(depth) else { return value.clone() };
    let inner = spec(steps, depth + 1, value);
    match step.as_str() {
        "[]" => json!([inner]),
        step => {
            let mut object: Map<String, Value> = company(&place(&steps[..depth])).as_object().cloned().unwrap();
            // Of the ways to mount something there is one.
            if step == "tmpfs" {
                object.remove("volume");
            }
            object.insert(if step == "*" { "db" } else { step }.to_owned(), inner);
            Value::Object(object)
        }
    }
}

fn document(spec: &Value) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: shop}}\nspec: {spec}\n")
}

fn is_accepted(text: &str) -> bool {
    let parsed = parse::parse_file(text, &FileContext::new(SOURCE, Path::new("/specs"), SHOP, None));
    parsed.problems.is_empty() && parsed.items.len() == 1
}

pub fn all() -> Vec<Scenario> {
    let root = schema::schema(Kind::Workspace);
    let mut walker = Walker { root, fields: Vec::new() };
    walker.walk(&root["properties"]["spec"], &[]);
    let mut scenarios = Vec::new();
    for Field { place, steps, values } in walker.fields {
        let accepted: Vec<(&Value, String)> =
            values.iter().map(|value| (value, document(&spec(&steps, 0, value)))).filter(|(_, text)| is_accepted(text)).collect();
        for pair in accepted.windows(2) {
            let [(_, before), (value, after)] = pair else { continue };
            let name = format!("field-{place}-{}", value.to_string().trim_matches('"'));
            let scenario = Scenario::new(name.leak(), vec![write(SHOP, before.clone()), write(SHOP, after.clone())]);
            // Nobody starts that again: it may end, or what is declared is refused.
            let ends = *value == "no" || ["update.order", "update.keepRootFileSystem"].contains(&place.as_str());
            scenarios.push(if ends { scenario.ends_with_the_engine() } else { scenario });
        }
    }
    scenarios
}
