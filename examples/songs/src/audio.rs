//! Reads an audio file into samples.
//!
//! Lives here: opening, decoding (WAV, FLAC, OGG/Vorbis, MP3) and mixing down to one channel. Does
//! not live here: what the sound is like (see `features`).

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as DecoderError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// Only the beginning of a long recording is decoded: it says enough about the song, and it bounds
/// the memory.
pub(crate) const DECODED_SECONDS_MAX: f64 = 300.0;

/// Sample rates that make sense for music; what lies outside is a damaged header.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;

/// Decoded sound.
#[derive(Debug)]
pub(crate) struct Sound {
    /// Samples per second.
    pub(crate) rate: u32,
    /// The mean of the channels, between -1 and 1.
    pub(crate) mono: Vec<f32>,
    /// Mean square over all channels. It is taken before mixing, because channels of opposite
    /// phase cancel in the mix.
    pub(crate) mean_square: f64,
    /// Length of the whole song, also when only its beginning was decoded.
    pub(crate) seconds: f64,
}

/// Why a file gave no sound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AudioError {
    /// The file could not be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// No known container was found in it.
    #[error("is not a WAV, FLAC, OGG or MP3 file, or is damaged ({0})")]
    UnknownFormat(String),
    /// The container is known, what is in it is not.
    #[error("holds no audio that can be decoded ({0})")]
    Unsupported(String),
    /// The decoder gave up, or most of the file could not be decoded.
    #[error("is damaged ({0})")]
    Damaged(String),
    /// The header is sound but no samples follow.
    #[error("holds no sound at all")]
    Silent,
}

/// Decodes the file at `path`. `progress` is called now and then with the done part, 0 to 1.
///
/// Single damaged packets are skipped, as players do; a file of which most packets are damaged is
/// an error.
pub(crate) fn decode(path: &Path, progress: impl FnMut(f64)) -> Result<Sound, AudioError> {
    // The decoder meets whatever lies in a user's folder; where it panics, it is the file that is
    // wrong.
    catch_unwind(AssertUnwindSafe(|| read(path, progress))).unwrap_or_else(|_| {
        Err(AudioError::Damaged("the decoder could not make sense of it".to_owned()))
    })
}

fn read(path: &Path, progress: impl FnMut(f64)) -> Result<Sound, AudioError> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Err(AudioError::Empty);
    }
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|error| AudioError::UnknownFormat(reason(&error)))?;
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(|| AudioError::Unsupported("no audio track".to_owned()))?;
    let track_id = track.id;
    let frames = track.num_frames;
    let parameters = track
        .codec_params
        .as_ref()
        .and_then(|parameters| parameters.audio())
        .ok_or_else(|| AudioError::Unsupported("unknown codec".to_owned()))?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| AudioError::Unsupported(reason(&error)))?;
    let mut reading = Reading::new(frames, progress);
    reading.run(format.as_mut(), decoder.as_mut(), track_id)?;
    reading.finish()
}

/// The state of one decoding run.
struct Reading<P> {
    progress: P,
    frames_declared: Option<u64>,
    rate: Option<u32>,
    channels: usize,
    mono: Vec<f32>,
    interleaved: Vec<f32>,
    square_sum: f64,
    packets_good: u64,
    packets_damaged: u64,
    last_damage: String,
    cut_off: bool,
}

impl<P: FnMut(f64)> Reading<P> {
    fn new(frames_declared: Option<u64>, progress: P) -> Self {
        Self {
            progress,
            frames_declared,
            rate: None,
            channels: 0,
            mono: Vec::new(),
            interleaved: Vec::new(),
            square_sum: 0.0,
            packets_good: 0,
            packets_damaged: 0,
            last_damage: String::new(),
            cut_off: false,
        }
    }

    fn run(
        &mut self,
        format: &mut dyn FormatReader,
        decoder: &mut dyn AudioDecoder,
        track_id: u32,
    ) -> Result<(), AudioError> {
        while !self.cut_off {
            let packet = match format.next_packet() {
                Ok(Some(packet)) => packet,
                // A chained stream starts anew with other parameters; its first part is enough
                // here.
                Ok(None) | Err(DecoderError::ResetRequired) => break,
                Err(error) if is_end_of_file(&error) => break,
                Err(error) => return Err(AudioError::Damaged(reason(&error))),
            };
            if packet.track_id != track_id {
                continue;
            }
            match decoder.decode(&packet) {
                Ok(buffer) => self.take(&buffer)?,
                Err(error @ DecoderError::DecodeError(_)) => self.skip(&error),
                Err(error) if is_end_of_file(&error) => self.skip(&error),
                Err(error) => return Err(AudioError::Damaged(reason(&error))),
            }
        }
        Ok(())
    }

    fn skip(&mut self, error: &DecoderError) {
        self.packets_damaged += 1;
        self.last_damage = reason(error);
    }

    fn take(&mut self, buffer: &GenericAudioBufferRef<'_>) -> Result<(), AudioError> {
        let rate = buffer.spec().rate();
        let channels = buffer.num_planes();
        if !RATES.contains(&rate) || channels == 0 {
            return Err(AudioError::Damaged(format!("{channels} channels at {rate} Hz")));
        }
        // The rate of a song does not change; a stream that says so has ended and another begun.
        if self.rate.is_some_and(|first| first != rate) {
            self.cut_off = true;
            return Ok(());
        }
        self.rate = Some(rate);
        self.channels = channels;
        self.packets_good += 1;
        buffer.copy_to_vec_interleaved(&mut self.interleaved);
        for frame in self.interleaved.chunks_exact_mut(channels) {
            // Floating point files can hold values that are not numbers.
            frame.iter_mut().filter(|sample| !sample.is_finite()).for_each(|sample| *sample = 0.0);
            self.square_sum +=
                frame.iter().map(|sample| f64::from(*sample) * f64::from(*sample)).sum::<f64>()
                    / channels as f64;
            self.mono.push(frame.iter().sum::<f32>() / channels as f32);
        }
        let decoded_max = (DECODED_SECONDS_MAX * f64::from(rate)) as u64;
        self.cut_off = self.mono.len() as u64 >= decoded_max;
        if let Some(declared) = self.frames_declared {
            (self.progress)(
                (self.mono.len() as f64 / declared.clamp(1, decoded_max) as f64).min(1.0),
            );
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Sound, AudioError> {
        if self.packets_damaged > self.packets_good {
            return Err(AudioError::Damaged(self.last_damage));
        }
        let (Some(rate), false) = (self.rate, self.mono.is_empty()) else {
            return Err(AudioError::Silent);
        };
        (self.progress)(1.0);
        let frames_decoded = self.mono.len() as u64;
        let frames = if self.cut_off {
            self.frames_declared.unwrap_or(0).max(frames_decoded)
        } else {
            frames_decoded
        };
        Ok(Sound {
            rate,
            mean_square: self.square_sum / frames_decoded as f64,
            mono: self.mono,
            seconds: frames as f64 / f64::from(rate),
        })
    }
}

fn is_end_of_file(error: &DecoderError) -> bool {
    matches!(error, DecoderError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof)
}

/// The decoder's words, with those for a file that ends too early made plain.
fn reason(error: &DecoderError) -> String {
    if is_end_of_file(error) { "the file ends too early".to_owned() } else { error.to_string() }
}

#[cfg(test)]
mod tests;
