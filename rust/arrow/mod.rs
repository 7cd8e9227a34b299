//! The feature file: Arrow's IPC file format, written from the buffers that the
//! rows were computed in.
//!
//! arrow-rs describes the format (schema and metadata); its own writer would
//! want every batch in one piece, so the framing is done here.

mod frame;
mod rows;
mod schema;

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_buffer::ToByteSlice;
use arrow_schema::Schema;

use crate::checksums;
use crate::error::{Error, Result};
use crate::output::{OutputFile, Piece};
use crate::packed::Gap;
use crate::pipeline::{Content, Flush, Group, Values};

pub use schema::Settings;

use frame::{Block, Body};

/// Writes groups of rows as the record batches of a feature file.
pub struct FeatureWriter {
    target: PathBuf,
    file: OutputFile,
    schema: Schema,
    content: Content,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
}

impl FeatureWriter {
    /// Begins a file at `path`, replacing what is there; `sources` are the
    /// names that the rows' positions refer to. Errors speak of `target`,
    /// where the file will be moved.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(
        path: &Path,
        target: &Path,
        content: Content,
        settings: &Settings,
        sources: &[String],
    ) -> Result<Self> {
        let file = OutputFile::create(path, target)?;
        let schema = schema::schema(&content, settings);
        let mut writer = Self {
            target: target.to_path_buf(),
            file,
            schema,
            content,
            dictionaries: Vec::new(),
            batches: Vec::new(),
        };
        let schema = frame::schema_message(&writer.schema);
        writer.file.put(&[IoSlice::new(&frame::head()), IoSlice::new(&schema)])?;
        let mut names = Body::default();
        names.add_utf8(sources.iter().map(String::as_str));
        let message = frame::dictionary_message(&names, sources.len());
        let block = writer.put_message(&message, &names)?;
        writer.dictionaries.push(block);
        Ok(writer)
    }

    /// Takes one batch made of these groups, in their order, and returns what
    /// is to be done now to write the file.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn write_batch(&mut self, groups: &[Group]) -> Result<Vec<Flush>> {
        let rows = groups.iter().map(Group::len).sum();
        let body = self.batch_body(groups, rows);
        self.put_batch(&body, rows)
    }

    /// Takes one batch made of these rows of other files, in their order; beside
    /// each, the position of the first of its file's sources.
    ///
    /// # Errors
    /// If they have other columns than this file, or there is no memory.
    pub fn write_rows(&mut self, parts: &[(RecordBatch, i32)]) -> Result<Vec<Flush>> {
        let rows = parts.iter().map(|(part, _)| part.num_rows()).sum();
        let body = rows::body(&self.schema, parts).ok_or_else(|| {
            Error::input(&self.target, "rows of other columns cannot be written to it")
        })?;
        self.put_batch(&body, rows)
    }

    /// Columns and metadata of the file.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    fn put_batch(&mut self, body: &Body, rows: usize) -> Result<Vec<Flush>> {
        let message = frame::batch_message(body, rows);
        let block = self.put_message(&message, body)?;
        self.batches.push(block);
        let flush = |piece: Piece| -> Flush {
            let target = self.target.clone();
            Box::new(move || piece.write().map_err(|error| Error::io(&target, error)))
        };
        Ok(self.file.take_pieces().into_iter().map(flush).collect())
    }

    /// Ends the file and waits until the device has it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.file.put(&[IoSlice::new(&frame::end_of_stream())])?;
        let footer = frame::footer(&self.schema, &self.dictionaries, &self.batches);
        let (sums, end) = (self.file.sums(), self.file.position());
        let table = checksums::table(&sums, end, &footer);
        self.file.put(&[IoSlice::new(&table), IoSlice::new(&footer)])?;
        self.file.finish().map_err(|error| Error::io(&self.target, error))
    }

    /// The columns of `schema::schema`, in its order.
    fn batch_body<'a>(&self, groups: &'a [Group], rows: usize) -> Body<'a> {
        let mut body = Body::default();
        body.add_utf8(groups.iter().flat_map(|group| group.ids.iter().map(|id| &**id)));
        body.add_column(rows, groups.iter().map(|group| group.sources.to_byte_slice()));
        body.add_column(rows, groups.iter().map(|group| group.starts.to_byte_slice()));
        let ends: Vec<u64> = groups
            .iter()
            .flat_map(|group| group.starts.iter().zip(&group.lengths).map(|(s, l)| s + l))
            .collect();
        body.add_owned_column(rows, ends.to_byte_slice());
        body.add_column(rows, groups.iter().map(|group| group.lengths.to_byte_slice()));
        body.add_column(rows, groups.iter().map(|group| group.gc.to_byte_slice()));
        for i in 0..self.content.layout.ks().count() {
            body.add_column(rows, groups.iter().map(|group| group.windows[i].to_byte_slice()));
        }
        let n_columns = groups.first().map_or(0, |group| group.values.len());
        for i in 0..n_columns {
            add_values(&mut body, rows, groups.iter().map(|group| &group.values[i]));
        }
        if self.content.sequence {
            let lengths = groups.iter().flat_map(|group| group.packed_lengths.iter().copied());
            body.add_binary(lengths, groups.iter().map(|group| &group.packed[..]));
            let counts = groups.iter().flat_map(|group| group.gap_counts.iter().copied());
            add_gaps(&mut body, counts, groups.iter().flat_map(|group| &group.gaps));
        }
        body
    }

    fn put_message(&mut self, message: &[u8], body: &Body) -> Result<Block> {
        let block = Block {
            offset: self.file.position(),
            metadata_length: message.len(),
            body_length: body.length(),
        };
        self.file.put(&[IoSlice::new(message)])?;
        self.file.put(&body.slices().collect::<Vec<_>>())?;
        Ok(block)
    }
}

fn add_values<'a>(body: &mut Body<'a>, rows: usize, parts: impl Iterator<Item = &'a Values>) {
    let mut fields = 0;
    let slices: Vec<&[u8]> = parts
        .map(|values| match values {
            Values::F32(values) => {
                fields += values.len();
                values.to_byte_slice()
            }
            Values::U16(values) => {
                fields += values.len();
                values.to_byte_slice()
            }
            Values::U32(values) => {
                fields += values.len();
                values.to_byte_slice()
            }
        })
        .collect();
    body.add_fixed_size_list(rows, fields, slices.into_iter());
}

fn add_gaps<'a>(
    body: &mut Body,
    counts: impl Iterator<Item = usize>,
    gaps: impl Iterator<Item = &'a Gap>,
) {
    let (starts, lengths): (Vec<u32>, Vec<u32>) = gaps.map(|gap| (gap.start, gap.length)).unzip();
    body.add_list(counts);
    body.add_struct(starts.len());
    body.add_owned_column(starts.len(), starts.to_byte_slice());
    body.add_owned_column(lengths.len(), lengths.to_byte_slice());
}
