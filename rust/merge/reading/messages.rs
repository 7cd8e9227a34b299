//! What the decoder of arrow-ipc takes for granted of a message, and a forged one lacks.

use arrow_ipc::{Block, Buffer, MessageHeader, RecordBatch, root_as_message};
use arrow_schema::{ArrowError, DataType, Schema};

/// What a message begins with, and its length.
const CONTINUATION: [u8; 4] = [0xff; 4];
const PREFIX: usize = 8;
/// Everything in a file begins at a multiple of this.
const ALIGNMENT: usize = 8;

/// Makes sure that a message is where its block says, and that the buffers of its rows lie
/// in its body and hold whole values: the decoder panics where they do not.
///
/// # Errors
/// If they do not.
pub(super) fn check_message(
    schema: &Schema,
    block: &Block,
    bytes: &[u8],
) -> Result<(), ArrowError> {
    let wrong = |what: &str| ArrowError::ParseError(what.into());
    let header = usize::try_from(block.metaDataLength()).ok();
    let is_header = |length: &usize| (PREFIX + 1..=bytes.len()).contains(length);
    let header = header.filter(is_header).filter(|&length| is_aligned(length));
    let header = header.ok_or_else(|| wrong("a message without a header"))?;
    if bytes[..4] != CONTINUATION {
        return Err(wrong("a message that does not begin as one"));
    }
    let message = root_as_message(&bytes[PREFIX..header])
        .map_err(|error| ArrowError::ParseError(error.to_string()))?;
    let columns = schema.fields().iter().map(|field| field.data_type());
    let (rows, types): (_, Vec<_>) = match message.header_type() {
        MessageHeader::RecordBatch => (message.header_as_record_batch(), columns.collect()),
        MessageHeader::DictionaryBatch => {
            let dictionary = message.header_as_dictionary_batch();
            (dictionary.and_then(|dictionary| dictionary.data()), values(columns).collect())
        }
        _ => (None, Vec::new()),
    };
    let rows = rows.ok_or_else(|| wrong("a message without rows"))?;
    let body = bytes.len() - header;
    let mut buffers = rows.buffers().into_iter().flatten();
    let is_whole = rows.compression().is_none()
        && are_possible(&rows, body)
        && buffers.clone().all(|buffer| is_within(buffer, body))
        && types.iter().all(|of| holds_whole(of, &mut buffers).is_some());
    if is_whole { Ok(()) } else { Err(wrong("rows that are not where they should be")) }
}

fn is_aligned(place: usize) -> bool {
    place.is_multiple_of(ALIGNMENT)
}

/// Types of the values of dictionaries: all are of one.
fn values<'a>(mut types: impl Iterator<Item = &'a DataType>) -> impl Iterator<Item = &'a DataType> {
    let values = types.find_map(|of| match of {
        DataType::Dictionary(_, values) => Some(&**values),
        _ => None,
    });
    values.into_iter()
}

/// Whether there may be so many rows in so many bytes.
fn are_possible(rows: &RecordBatch, body: usize) -> bool {
    rows.nodes().into_iter().flatten().all(|node| {
        usize::try_from(node.length()).is_ok_and(|length| length / 8 <= body)
            && (0..=node.length()).contains(&node.null_count())
    })
}

fn is_within(buffer: &Buffer, body: usize) -> bool {
    let (start, length) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
    let (Ok(start), Ok(length)) = (start, length) else {
        return false;
    };
    is_aligned(start) && start.checked_add(length).is_some_and(|end| end <= body)
}

/// Passes over the buffers of a column; nothing where one of them ends within a value, or
/// feature files have no such columns.
fn holds_whole<'a>(of: &DataType, buffers: &mut impl Iterator<Item = &'a Buffer>) -> Option<()> {
    // Which values there are, a bit each.
    buffers.next()?;
    let mut next = |width: usize| {
        let length = usize::try_from(buffers.next()?.length()).ok()?;
        length.is_multiple_of(width).then_some(())
    };
    match of {
        DataType::Utf8 => next(size_of::<i32>()).and_then(|()| next(1)),
        DataType::LargeBinary => next(size_of::<i64>()).and_then(|()| next(1)),
        DataType::List(item) => {
            next(size_of::<i32>())?;
            holds_whole(item.data_type(), buffers)
        }
        DataType::FixedSizeList(item, _) => holds_whole(item.data_type(), buffers),
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|field| holds_whole(field.data_type(), buffers))
        }
        DataType::Dictionary(key, _) => next(key.primitive_width()?),
        of => next(of.primitive_width()?),
    }
}
