//! Decodes an audio file (WAV, FLAC, OGG/Vorbis or MP3) into samples, and mixes them into one
//! channel.
//!
//! `features` measures the samples.

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

/// Only the beginning of a longer recording is decoded. It is enough to measure the song, and this
/// limit bounds the memory.
pub(crate) const DECODED_SECONDS_MAX: f64 = 300.0;

/// The usual sample rates of music. A header with another rate is damaged.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;

/// Decoded sound.
#[derive(Debug)]
pub(crate) struct Sound {
    /// Samples per second.
    pub(crate) rate: u32,
    /// The mean of the channels, between -1 and 1.
    pub(crate) mono: Vec<f32>,
    /// The mean square over all channels, taken before they are mixed: channels of opposite phase
    /// cancel each other in the mix.
    pub(crate) mean_square: f64,
    /// The length of the whole song, also if only its beginning was decoded.
    pub(crate) seconds: f64,
}

/// Why a file has no samples. The caller puts the name of the file before the sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AudioError {
    /// The file could not be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file has no known container format.
    #[error("is not a WAV, FLAC, OGG or MP3 file, or is damaged ({0})")]
    UnknownFormat(String),
    /// The container format is known, but the codec is not.
    #[error("holds no audio that can be decoded ({0})")]
    Unsupported(String),
    /// The decoder failed, or it could not decode most of the file.
    #[error("is damaged ({0})")]
    Damaged(String),
    /// The header is valid, but no samples follow.
    #[error("holds no sound at all")]
    Silent,
}

/// Decodes the file at `path`. `progress` is called from time to time with the part that is done, 0
/// to 1.
///
/// Damaged packets are skipped, as music players do. If most packets are damaged, the file is an
/// error.
pub(crate) fn decode(path: &Path, progress: impl FnMut(f64)) -> Result<Sound, AudioError> {
    // The decoder gets any file of a user's folder. If it panics, the cause is the file.
    catch_unwind(AssertUnwindSafe(|| read(path, progress)))
        .unwrap_or_else(|_| Err(AudioError::Damaged("the decoder panicked".to_owned())))
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
                // A chained stream begins again with other parameters. Its first part is enough.
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
        // The sample rate of a song does not change. A new rate means that another stream begins.
        if self.rate.is_some_and(|first| first != rate) {
            self.cut_off = true;
            return Ok(());
        }
        self.rate = Some(rate);
        self.channels = channels;
        self.packets_good += 1;
        buffer.copy_to_vec_interleaved(&mut self.interleaved);
        for frame in self.interleaved.chunks_exact_mut(channels) {
            for sample in frame.iter_mut() {
                // Floating point files can have values that are not numbers.
                if !sample.is_finite() {
                    *sample = 0.0;
                }
            }
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

/// The sentence of the decoder, or a clearer one for a file that ends too early.
fn reason(error: &DecoderError) -> String {
    if is_end_of_file(error) { "the file ends too early".to_owned() } else { error.to_string() }
}

#[cfg(test)]
mod tests;
