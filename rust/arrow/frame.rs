//! Messages and bodies of Arrow's IPC file format.

use std::borrow::Cow;
use std::io::IoSlice;

use arrow_buffer::ToByteSlice;
use arrow_ipc::convert::IpcSchemaEncoder;
use arrow_ipc::writer::DictionaryTracker;
use arrow_ipc::{
    self as ipc, Buffer, DictionaryBatchBuilder, FieldNode, FooterBuilder, MessageBuilder,
    MessageHeader, MetadataVersion, RecordBatchBuilder,
};
use arrow_schema::Schema;
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

/// Messages, bodies and the buffers in them begin at multiples of this, so
/// that a mapped file is aligned for every vector width.
const ALIGNMENT: usize = 64;

const MAGIC: &[u8; 6] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xff; 4];
const PADDING: [u8; ALIGNMENT] = [0; ALIGNMENT];

/// The id of the only dictionary, as [`IpcSchemaEncoder`] numbers them.
const SOURCES: i64 = 0;

/// Where a message stands in the file.
pub(super) struct Block {
    pub(super) offset: u64,
    /// With its prefix and padding.
    pub(super) metadata_length: usize,
    pub(super) body_length: usize,
}

/// Buffers of a record batch, in the order of the schema's fields.
#[derive(Default)]
pub(super) struct Body<'a> {
    parts: Vec<Cow<'a, [u8]>>,
    length: usize,
    buffers: Vec<Buffer>,
    nodes: Vec<FieldNode>,
}

impl<'a> Body<'a> {
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        self.parts.iter().map(|part| IoSlice::new(part))
    }

    /// A field without nulls and without children.
    pub(super) fn add_column(&mut self, rows: usize, parts: impl Iterator<Item = &'a [u8]>) {
        self.add_node(rows);
        self.add_buffer(parts.map(Cow::Borrowed));
    }

    pub(super) fn add_owned_column(&mut self, rows: usize, bytes: &[u8]) {
        self.add_node(rows);
        self.add_buffer(std::iter::once(Cow::Owned(bytes.to_vec())));
    }

    pub(super) fn add_utf8<'s>(&mut self, texts: impl Iterator<Item = &'s str>) {
        let mut offsets = vec![0i32];
        let mut bytes = Vec::new();
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            offsets.push(bytes.len() as i32);
        }
        self.add_node(offsets.len() - 1);
        self.add_buffer(std::iter::once(Cow::Owned(offsets.to_byte_slice().to_vec())));
        self.add_buffer(std::iter::once(Cow::Owned(bytes)));
    }

    /// A field of large binaries, given their lengths and all bytes together.
    pub(super) fn add_binary(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        parts: impl Iterator<Item = &'a [u8]>,
    ) {
        let mut offsets = vec![0i64];
        offsets.extend(running_sum(lengths).map(|sum| sum as i64));
        self.add_node(offsets.len() - 1);
        self.add_buffer(std::iter::once(Cow::Owned(offsets.to_byte_slice().to_vec())));
        self.add_buffer(parts.map(Cow::Borrowed));
    }

    /// A field of lists, given their lengths; its child follows.
    pub(super) fn add_list(&mut self, lengths: impl Iterator<Item = usize>) {
        let mut offsets = vec![0i32];
        offsets.extend(running_sum(lengths).map(|sum| sum as i32));
        self.add_node(offsets.len() - 1);
        self.add_buffer(std::iter::once(Cow::Owned(offsets.to_byte_slice().to_vec())));
    }

    /// A field of lists of one size, with the one buffer of its child.
    pub(super) fn add_fixed_size_list(
        &mut self,
        rows: usize,
        fields: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) {
        self.add_node(rows);
        self.add_column(fields, parts);
    }

    /// A field of structs; its children follow.
    pub(super) fn add_struct(&mut self, rows: usize) {
        self.add_node(rows);
    }

    /// A field without nulls: its validity buffer may be left empty.
    fn add_node(&mut self, rows: usize) {
        self.nodes.push(FieldNode::new(rows as i64, 0));
        self.buffers.push(Buffer::new(self.length as i64, 0));
    }

    fn add_buffer(&mut self, parts: impl Iterator<Item = Cow<'a, [u8]>>) {
        let start = self.length;
        for part in parts {
            self.length += part.len();
            self.parts.push(part);
        }
        self.buffers.push(Buffer::new(start as i64, (self.length - start) as i64));
        let padding = padding(self.length);
        self.length += padding;
        self.parts.push(Cow::Borrowed(&PADDING[..padding]));
    }
}

fn running_sum(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    lengths.scan(0, |sum, length| {
        *sum += length;
        Some(*sum)
    })
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT) - length
}

/// The beginning of a file.
pub(super) fn head() -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.resize(ALIGNMENT, 0);
    head
}

/// What ends the messages of a file.
pub(super) fn end_of_stream() -> Vec<u8> {
    [CONTINUATION, [0; 4]].concat()
}

/// The end of a file: what its blocks are and where they stand.
pub(super) fn footer(schema: &Schema, dictionaries: &[Block], batches: &[Block]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let blocks = |blocks: &[Block]| -> Vec<ipc::Block> {
        let block = |block: &Block| {
            let (offset, body) = (block.offset as i64, block.body_length as i64);
            ipc::Block::new(offset, block.metadata_length as i32, body)
        };
        blocks.iter().map(block).collect()
    };
    let dictionaries = builder.create_vector(&blocks(dictionaries));
    let batches = builder.create_vector(&blocks(batches));
    let schema = encode_schema(&mut builder, schema);
    let mut footer = FooterBuilder::new(&mut builder);
    footer.add_version(MetadataVersion::V5);
    footer.add_schema(schema);
    footer.add_dictionaries(dictionaries);
    footer.add_recordBatches(batches);
    let footer = footer.finish();
    builder.finish(footer, None);
    let footer = builder.finished_data();
    let length = (footer.len() as i32).to_le_bytes();
    [footer, &length, MAGIC].concat()
}

pub(super) fn schema_message(schema: &Schema) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let schema = encode_schema(&mut builder, schema).as_union_value();
    message(builder, MessageHeader::Schema, schema, 0)
}

pub(super) fn dictionary_message(body: &Body, rows: usize) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let data = encode_batch(&mut builder, body, rows);
    let mut dictionary = DictionaryBatchBuilder::new(&mut builder);
    dictionary.add_id(SOURCES);
    dictionary.add_data(data);
    let dictionary = dictionary.finish().as_union_value();
    message(builder, MessageHeader::DictionaryBatch, dictionary, body.length)
}

pub(super) fn batch_message(body: &Body, rows: usize) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let batch = encode_batch(&mut builder, body, rows).as_union_value();
    message(builder, MessageHeader::RecordBatch, batch, body.length)
}

fn encode_schema<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    schema: &Schema,
) -> WIPOffset<ipc::Schema<'b>> {
    let mut tracker = DictionaryTracker::new(true);
    IpcSchemaEncoder::new()
        .with_dictionary_tracker(&mut tracker)
        .schema_to_fb_offset(builder, schema)
}

fn encode_batch<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    body: &Body,
    rows: usize,
) -> WIPOffset<ipc::RecordBatch<'b>> {
    let nodes = builder.create_vector(&body.nodes);
    let buffers = builder.create_vector(&body.buffers);
    let mut batch = RecordBatchBuilder::new(builder);
    batch.add_length(rows as i64);
    batch.add_nodes(nodes);
    batch.add_buffers(buffers);
    batch.finish()
}

/// A message with its prefix, padded so that the body after it is aligned.
fn message(
    mut builder: FlatBufferBuilder,
    kind: MessageHeader,
    header: WIPOffset<UnionWIPOffset>,
    body_length: usize,
) -> Vec<u8> {
    let mut message = MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(kind);
    message.add_header(header);
    message.add_bodyLength(body_length as i64);
    let message = message.finish();
    builder.finish(message, None);
    let data = builder.finished_data();

    let prefix = CONTINUATION.len() + 4;
    let padded = (prefix + data.len()).next_multiple_of(ALIGNMENT);
    let mut bytes = Vec::with_capacity(padded);
    bytes.extend_from_slice(&CONTINUATION);
    bytes.extend_from_slice(&((padded - prefix) as i32).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(padded, 0);
    bytes
}
