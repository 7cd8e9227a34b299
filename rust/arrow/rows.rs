//! Rows of record batches that were read, as the body of one that is written.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::ToByteSlice;
use arrow_schema::{DataType, Schema};

use super::frame::Body;

/// The columns of all parts behind each other; nothing where a column is not
/// what the schema says. `source` is counted on from the number beside a part.
pub(super) fn body<'a>(schema: &Schema, parts: &'a [(RecordBatch, i32)]) -> Option<Body<'a>> {
    let rows = parts.iter().map(|(part, _)| part.num_rows()).sum();
    let mut body = Body::default();
    for (i, field) in schema.fields().iter().enumerate() {
        let columns: Vec<&dyn Array> = parts
            .iter()
            .map(|(part, _)| part.columns().get(i).map(AsRef::as_ref))
            .collect::<Option<_>>()?;
        if columns.iter().any(|column| column.data_type() != field.data_type()) {
            return None;
        }
        match field.data_type() {
            DataType::Utf8 => {
                let texts = columns.iter().flat_map(|column| column.as_string::<i32>().iter());
                body.add_utf8(texts.map(Option::unwrap_or_default));
            }
            DataType::Dictionary(..) => {
                let mut codes = Vec::with_capacity(rows);
                for (column, (_, first)) in columns.iter().zip(parts) {
                    let keys = column.as_dictionary::<Int32Type>().keys();
                    codes.extend(keys.values().iter().map(|code| code.wrapping_add(*first)));
                }
                body.add_owned_column(rows, codes.to_byte_slice());
            }
            DataType::FixedSizeList(item, width) => {
                let values = columns.iter().map(|column| column.as_fixed_size_list().values());
                let slices = values.map(|values| bytes(item.data_type(), values.as_ref()));
                let slices: Vec<&[u8]> = slices.collect::<Option<_>>()?;
                body.add_fixed_size_list(rows, rows * *width as usize, slices.into_iter());
            }
            DataType::LargeBinary => {
                let offsets =
                    || columns.iter().map(|column| column.as_binary::<i64>().value_offsets());
                let lengths = offsets().flat_map(|offsets| {
                    offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize)
                });
                let slices: Vec<&[u8]> = columns
                    .iter()
                    .zip(offsets())
                    .map(|(column, offsets)| {
                        let ends = *offsets.first()? as usize..*offsets.last()? as usize;
                        column.as_binary::<i64>().value_data().get(ends)
                    })
                    .collect::<Option<_>>()?;
                body.add_binary(lengths, slices.into_iter());
            }
            DataType::List(_) => add_runs(&mut body, &columns)?,
            other => {
                let slices: Vec<&[u8]> =
                    columns.iter().map(|column| bytes(other, *column)).collect::<Option<_>>()?;
                body.add_column(rows, slices.into_iter());
            }
        }
    }
    Some(body)
}

/// The values of a column of numbers.
fn bytes<'a>(kind: &DataType, column: &'a dyn Array) -> Option<&'a [u8]> {
    Some(match kind {
        DataType::UInt16 => column.as_primitive_opt::<UInt16Type>()?.values().to_byte_slice(),
        DataType::UInt32 => column.as_primitive_opt::<UInt32Type>()?.values().to_byte_slice(),
        DataType::UInt64 => column.as_primitive_opt::<UInt64Type>()?.values().to_byte_slice(),
        DataType::Float32 => column.as_primitive_opt::<Float32Type>()?.values().to_byte_slice(),
        _ => return None,
    })
}

/// Lists of pairs of numbers.
fn add_runs(body: &mut Body, columns: &[&dyn Array]) -> Option<()> {
    let mut lengths = Vec::new();
    let (mut starts, mut counts): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
    for column in columns {
        let list = column.as_list::<i32>();
        let offsets = list.value_offsets();
        lengths.extend(offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize));
        let ends = *offsets.first()? as usize..*offsets.last()? as usize;
        let runs = list.values().as_struct_opt()?;
        for (i, numbers) in [&mut starts, &mut counts].into_iter().enumerate() {
            let values = runs.columns().get(i)?.as_primitive_opt::<UInt32Type>()?.values();
            numbers.extend_from_slice(values.get(ends.clone())?);
        }
    }
    body.add_list(lengths.into_iter());
    body.add_struct(starts.len());
    body.add_owned_column(starts.len(), starts.to_byte_slice());
    body.add_owned_column(counts.len(), counts.to_byte_slice());
    Some(())
}
