//! Columns and metadata of a feature file.

use std::collections::HashMap;

use arrow_schema::{DataType, Field, Fields, Schema};
use serde_json::json;

use crate::pipeline::{Content, Store};

/// Version of the file format; readers refuse others.
const FORMAT_VERSION: u32 = 1;

/// What the metadata tells of how the rows were made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Letters in a window, 0 for whole records.
    pub window: usize,
    /// Records shorter than this were left out.
    pub min_length: u64,
    /// Rows in every batch but those closed early and the last.
    pub batch_rows: usize,
}

pub(super) fn schema(content: &Content, settings: &Settings) -> Schema {
    let mut fields = vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("source", dictionary(), false),
        Field::new("start", DataType::UInt64, false),
        Field::new("end", DataType::UInt64, false),
        Field::new("length", DataType::UInt64, false),
        Field::new("gc", DataType::Float32, false),
    ];
    let ks: Vec<usize> = content.layout.ks().collect();
    fields.extend(ks.iter().map(|k| Field::new(format!("n{k}"), DataType::UInt64, false)));
    let counts = |value: &DataType| {
        content
            .layout
            .blocks()
            .iter()
            .filter_map(move |block| {
                let data = list(value.clone(), block.stop - block.start);
                block.k().map(|k| Field::new(format!("k{k}"), data, false))
            })
            .collect::<Vec<_>>()
    };
    match content.store {
        Store::Log => {
            let data = list(DataType::Float32, content.layout.n_fields());
            fields.push(Field::new("features", data, false));
        }
        Store::Counts16 => fields.extend(counts(&DataType::UInt16)),
        Store::Counts32 => fields.extend(counts(&DataType::UInt32)),
        Store::Packed => {}
    }
    if content.sequence {
        fields.push(Field::new("sequence", DataType::LargeBinary, false));
        fields.push(Field::new("invalid", invalid(), false));
    }
    Schema::new_with_metadata(fields, metadata(content, settings))
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn list(value: DataType, length: usize) -> DataType {
    DataType::FixedSizeList(Field::new("item", value, false).into(), length as i32)
}

fn invalid() -> DataType {
    let run = Fields::from(vec![
        Field::new("start", DataType::UInt32, false),
        Field::new("length", DataType::UInt32, false),
    ]);
    DataType::List(Field::new("item", DataType::Struct(run), false).into())
}

fn metadata(content: &Content, settings: &Settings) -> HashMap<String, String> {
    let store = match content.store {
        Store::Log => "log",
        Store::Counts16 | Store::Counts32 => "counts",
        Store::Packed => "packed",
    };
    let text = json!({
        "format": FORMAT_VERSION,
        "version": env!("CARGO_PKG_VERSION"),
        "store": store,
        "layout": content.layout.to_json(),
        "window": settings.window,
        "min_length": settings.min_length,
        "batch_rows": settings.batch_rows,
    });
    HashMap::from([("kvae".to_string(), text.to_string())])
}
