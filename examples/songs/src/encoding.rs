//! Encodes samples as WAV and FLAC, the two formats of the made songs.
//!
//! `audio` decodes files, with a library that knows more formats.

use std::io;

use flacenc::component::BitRepr;
use flacenc::error::Verify;

/// Frames per FLAC block, the usual size.
const FLAC_BLOCK_FRAMES: usize = 4096;

/// The WAV format tag of integer samples.
const WAV_INTEGER: u16 = 1;

/// A sample between -1 and 1 as a 16 bit number. A sample outside of this range is clipped.
pub(crate) fn sixteen_bits(sample: f64) -> i16 {
    (sample * f64::from(i16::MAX)).round() as i16
}

/// A WAV file of 16 bit samples with interleaved channels.
pub(crate) fn wav(channels: u16, rate: u32, samples: &[i16]) -> Vec<u8> {
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    wav_container(WAV_INTEGER, 16, channels, rate, &bytes)
}

/// A WAV file: its 44 byte header, then `bytes` unchanged. The format 1 means integers, 3 means
/// floating point.
pub(crate) fn wav_container(
    format: u16,
    sample_bits: u16,
    channels: u16,
    rate: u32,
    bytes: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("clips are far below 4 GiB");
    let frame_bytes = channels * sample_bits / 8;
    let mut file = Vec::with_capacity(44 + bytes.len());
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(format.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(frame_bytes)).to_le_bytes());
    file.extend(frame_bytes.to_le_bytes());
    file.extend(sample_bits.to_le_bytes());
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(bytes);
    file
}

/// A FLAC file of 16 bit samples with interleaved channels.
///
/// # Errors
/// The encoder refuses its input.
pub(crate) fn flac(channels: u16, rate: u32, samples: &[i16]) -> io::Result<Vec<u8>> {
    let config =
        flacenc::config::Encoder::default().into_verified().map_err(|(_, error)| refused(error))?;
    let samples: Vec<i32> = samples.iter().map(|sample| i32::from(*sample)).collect();
    let source = flacenc::source::MemSource::from_samples(
        &samples,
        usize::from(channels),
        16,
        rate as usize,
    );
    let mut stream = flacenc::encode_with_fixed_block_size(&config, source, FLAC_BLOCK_FRAMES)
        .map_err(refused)?;
    // The encoder writes the size of the shorter last block as the smallest size, which the format
    // forbids. Strict decoders would then read frame numbers as sample numbers, and fail.
    stream
        .stream_info_mut()
        .set_block_sizes(FLAC_BLOCK_FRAMES, FLAC_BLOCK_FRAMES)
        .map_err(refused)?;
    let mut sink = flacenc::bitsink::ByteSink::new();
    stream.write(&mut sink).map_err(refused)?;
    Ok(sink.as_slice().to_vec())
}

fn refused(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the FLAC encoder refused: {error}"))
}
