//! JSON Schema (draft 2020-12) of what people write, generated from the types: what `structure` checks, `explain` tells, and editors use.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::resource::{API_VERSION, Kind, Metadata, PreviewSpec, Status, TenantSpec, WorkspaceSpec, WorkspaceTypeSpec};

/// The schema of one written kind: the whole envelope, with `$defs`. The internal kind has none: `null`.
pub fn schema(kind: Kind) -> &'static Value {
    static SCHEMAS: LazyLock<[Value; 4]> = LazyLock::new(|| Kind::WRITTEN.map(generate));
    Kind::WRITTEN.iter().position(|written| *written == kind).and_then(|position| SCHEMAS.get(position)).unwrap_or(&Value::Null)
}

/// One schema for all kinds, chosen by `kind`; a file with any of them can name it to its editor.
pub fn all() -> Value {
    let mut definitions = Map::new();
    let mut kinds = Vec::new();
    for kind in Kind::WRITTEN {
        let mut one = schema(kind).clone();
        if let Some(Value::Object(own)) = one.as_object_mut().and_then(|one| one.remove("$defs")) {
            definitions.extend(own);
        }
        if let Some(one) = one.as_object_mut() {
            one.remove("$schema");
            one.remove("$id");
        }
        definitions.insert(format!("{kind}Document"), one);
        kinds.push(json!({"$ref": format!("#/$defs/{kind}Document")}));
    }
    json!({"$schema": DIALECT, "title": "dockmaster", "description": "Any kind of dockmaster.", "oneOf": kinds, "$defs": definitions})
}

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Fields that their types have a Rust default for, only to be built in code.
const REQUIRED: [(&str, &str); 3] = [("Service", "image"), ("Mount", "path"), ("Build", "context")];

fn generate(kind: Kind) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let metadata = generator.subschema_for::<Metadata>();
    let (spec, about) = match kind {
        Kind::Workspace => (generator.subschema_for::<WorkspaceSpec>(), "A development environment that runs."),
        Kind::Preview => (generator.subschema_for::<PreviewSpec>(), "A copy of a workspace, or an image, that expires by itself."),
        Kind::WorkspaceType => {
            (generator.subschema_for::<WorkspaceTypeSpec>(), "A template that workspaces name with `type`. Only in files of the root directory.")
        }
        Kind::Tenant => (
            generator.subschema_for::<TenantSpec>(),
            "A user or team: limits, defaults and policy of the namespace of the same name; `default` holds those for everyone. Only in files of the root directory.",
        ),
        Kind::Namespace => return Value::Null,
    };
    let status = generator.subschema_for::<Status>();
    let mut definitions = generator.take_definitions(true);
    for (definition, field) in REQUIRED {
        if let Some(definition) = definitions.get_mut(definition) {
            definition["required"] = json!([field]);
        }
    }
    let field = |schema: schemars::Schema, description: &str| {
        let mut schema = schema.to_value();
        schema["description"] = json!(description);
        schema
    };
    let mut status = field(status, "What was found. Written by the operator; never read as a wish.");
    status["readOnly"] = json!(true);
    let mut schema = json!({
        "$schema": DIALECT,
        "title": kind.as_str(),
        "description": about,
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": {"description": "The version of this format.", "const": API_VERSION},
            "kind": {"description": "The kind of the document.", "const": kind.as_str()},
            "metadata": field(metadata, "Name, namespace, labels and annotations."),
            "spec": field(spec, "What is wanted."),
            "status": status,
        },
        "$defs": definitions,
    });
    simplify(&mut schema);
    schema
}

/// Optional fields may be left out; that they may also be `null`, as the generator says, helps nobody who reads or completes.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Array(entries) => entries.iter_mut().for_each(simplify),
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice != &json!({"type": "null"}));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            // A Rust default that is empty says only that the field may be left out.
            object.remove("default");
            for (key, value) in object.iter_mut() {
                match (key.as_str(), value) {
                    ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(simplify),
                    (_, value) => simplify(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test schema` writes them anew.
    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/schema");
        let kinds = Kind::WRITTEN.map(|kind| (kind.singular(), schema(kind).clone()));
        for (name, value) in kinds.into_iter().chain([("all", all())]) {
            let path = directory.join(format!("{name}.json"));
            let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == text, "{} is stale: run `UPDATE=1 cargo test --lib source::schema`", path.display());
        }
    }

    #[test]
    fn the_schemas_are_schemas() {
        for value in Kind::WRITTEN.into_iter().map(|kind| schema(kind).clone()).chain([all()]) {
            jsonschema::meta::validate(&value).unwrap();
            jsonschema::validator_for(&value).unwrap();
            // Every reference leads somewhere, and no optional field says `null`.
            let text = value.to_string();
            for (_, rest) in text.match_indices("\"#/$defs/").map(|(at, lead)| text.split_at(at + lead.len())) {
                assert!(value["$defs"].get(rest.split('"').next().unwrap()).is_some(), "{rest:.40}");
            }
            assert!(!text.contains("\"null\""));
        }
        assert!(schema(Kind::Namespace).is_null());
    }
}
