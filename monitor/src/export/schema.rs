//! The schemas of what is told as JSON (docs/*.schema.json), made from the types that are written.

use std::{env, fs, path::Path};

use schemars::{JsonSchema, generate::SchemaSettings};

/// Compares the file with what the type says; `UPDATE_DOCS=1` writes it anew.
pub fn check<T: JsonSchema>(name: &str) {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    schema.insert(
        "title".to_owned(),
        format!("What `taskleak {name}` tells as JSON").into(),
    );
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{name}.schema.json"));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        text,
        "UPDATE_DOCS=1 cargo test -p taskleak the_schema_is_documented"
    );
}
