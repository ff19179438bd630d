//! The JSON Schema of a recipe, for editors, and the list of all keys drawn from it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::recipe::Recipe;

/// The JSON Schema (draft 2020-12) of a recipe; descriptions are the doc comments of the fields.
///
/// It has no references, so that editors show each key's description where it is used.
pub fn json_schema() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Recipe>().to_value();
    without_null(&mut schema);
    // Serde sees defaults for these, so that validation can name all that is missing at once.
    require(&mut schema, &["model", "data", "method"]);
    if let Some(data) = schema.pointer_mut("/properties/data") {
        require(data, &["train"]);
    }
    schema
}

/// TOML has no null: an optional key is one that can be left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if object.get("default").is_some_and(has_null) {
                object.remove("default");
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(object) => object.values().any(has_null),
        _ => false,
    }
}

fn require(schema: &mut Value, keys: &[&str]) {
    for key in keys {
        if let Some(property) = schema.pointer_mut(&format!("/properties/{key}")) {
            property.as_object_mut().map(|property| property.remove("default"));
        }
    }
    if let Some(object) = schema.as_object_mut() {
        object.insert("required".into(), json!(keys));
    }
}

/// One key or section of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownKey {
    /// Its path, such as `["train", "learning_rate"]`.
    pub path: Vec<String>,
    /// Whether it is a section, that is, has keys below it or could have.
    pub section: bool,
}

/// All keys and sections, in the order of the recipe's fields; a section stands before its keys.
pub(crate) fn known_keys() -> Vec<KnownKey> {
    let mut keys = Vec::new();
    collect(&json_schema(), &mut Vec::new(), &mut keys);
    keys
}

fn collect(schema: &Value, path: &mut Vec<String>, keys: &mut Vec<KnownKey>) {
    for variants in ["oneOf", "anyOf"] {
        for variant in schema.get(variants).and_then(Value::as_array).into_iter().flatten() {
            collect(variant, path, keys);
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flat_map(Map::iter) {
        path.push(name.clone());
        keys.push(KnownKey { path: path.clone(), section: is_section(property) });
        collect(property, path, keys);
        // The keys of a table that may stand several times.
        property.get("items").into_iter().for_each(|item| collect(item, path, keys));
        path.pop();
    }
}

fn is_section(schema: &Value) -> bool {
    let of_objects = |variants: &Value| {
        variants.as_array().is_some_and(|variants| variants.iter().all(is_section))
    };
    schema.get("type") == Some(&json!("object")) || schema.get("oneOf").is_some_and(of_objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::VARIANT_TABLES;

    #[test]
    fn every_key_has_a_description() {
        fn check(schema: &Value, path: &str) {
            for variants in ["oneOf", "anyOf"] {
                for variant in schema.get(variants).and_then(Value::as_array).into_iter().flatten()
                {
                    check(variant, path);
                }
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flat_map(Map::iter) {
                let path = format!("{path}.{name}");
                // The description of a variant stands at its parent.
                let described =
                    property.get("description").is_some() || schema.get("description").is_some();
                assert!(described, "{path}");
                check(property, &path);
            }
        }
        check(&json_schema(), "");
    }

    #[test]
    fn unknown_keys_are_refused_by_the_schema_too() {
        let schema = json_schema();
        for pointer in ["", "/properties/data", "/properties/train", "/properties/export"] {
            let section = schema.pointer(pointer).unwrap();
            assert_eq!(section["additionalProperties"], json!(false), "{pointer}");
        }
    }

    #[test]
    fn what_must_be_given_is_required_and_nothing_is_null() {
        let schema = json_schema();
        assert_eq!(schema["required"], json!(["model", "data", "method"]));
        assert_eq!(schema["properties"]["data"]["required"], json!(["train"]));
        assert!(!schema.to_string().contains("null"));
        assert!(!schema.to_string().contains("$ref"));
        assert_eq!(schema["properties"]["train"]["properties"]["batch_size"]["default"], json!(8));
    }

    #[test]
    fn known_keys_reach_into_every_variant() {
        let keys = known_keys();
        let has = |path: &str, section| {
            let path = path.split('.').map(str::to_owned).collect();
            assert!(keys.contains(&KnownKey { path, section }), "{keys:?}");
        };
        has("model", false);
        has("train", true);
        has("method", true);
        has("method.full", true);
        has("method.lora.target_modules", false);
        has("train.schedule.cosine.min_lr_ratio", false);
        has("train.optimizer.adamw_8bit.min_8bit_size", false);
    }

    #[test]
    fn variant_tables_are_the_sections_with_a_choice() {
        for path in VARIANT_TABLES {
            let pointer = path.iter().map(|name| format!("/properties/{name}")).collect::<String>();
            let choices = json_schema().pointer(&format!("{pointer}/oneOf")).cloned();
            assert!(choices.is_some_and(|choices| choices.as_array().unwrap().len() > 1));
        }
    }
}
