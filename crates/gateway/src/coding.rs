//! Decodes compressed request bodies, so that routing and adaptation can read them.
//!
//! Claude Code compresses its bodies with `CLAUDE_CODE_GZIP_REQUEST_BODIES=1` behind a proxy (client 2.1.332); SDK programs may use any of
//! the codings. Invariant: what a decoder yields is bounded by [`MAX_DECODED`], whatever the body claims.

use std::io::{self, Read, Write};

use bytes::Bytes;
use http::HeaderMap;

/// Most bytes that a compressed request body may decode to and still be read: twice the default of `server.max_body`.
const MAX_DECODED: usize = 64 * 1024 * 1024;

/// Decoded bytes that are reserved at first; a body of zeros must not reserve more than it fills.
const FIRST_RESERVE: usize = 64 * 1024;

/// A coding of a request body that can be decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 without its wrapper, which some programs send under the same name.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Reads `content-encoding`. `Ok(None)` if the body is not compressed.
    ///
    /// # Errors
    ///
    /// The coding's name if it cannot be decoded here.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, &str> {
        let Some(name) = hotspare_wire::limits::content_coding(headers) else { return Ok(None) };
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            "br" => Ok(Some(Self::Brotli)),
            "zstd" => Ok(Some(Self::Zstd)),
            _ => Err(name),
        }
    }

    /// Decodes a whole body. `None` if it is damaged, cut short or longer than [`MAX_DECODED`].
    pub(crate) fn decode(self, body: &[u8]) -> Option<Bytes> {
        let decoded = match self {
            Self::Gzip => read(flate2::read::MultiGzDecoder::new(body)),
            Self::Deflate => read(flate2::read::ZlibDecoder::new(body)).or_else(|_| read(flate2::read::DeflateDecoder::new(body))),
            Self::Brotli => read(brotli_decompressor::Decompressor::new(body, 4096)),
            Self::Zstd => zstd(body),
        };
        decoded.inspect_err(|error| tracing::debug!(%error, ?self, "a request body cannot be decoded")).ok().map(Bytes::from)
    }
}

/// Decodes a compressed event stream piece by piece. No profile is asked for one, but some send it all the same.
pub(crate) enum Unpacker {
    /// RFC 1952.
    Gzip(flate2::write::MultiGzDecoder<Vec<u8>>),
    /// RFC 1950.
    Deflate(flate2::write::ZlibDecoder<Vec<u8>>),
}

impl Unpacker {
    /// For a coding as the answer names it. `None` if it cannot be decoded on its way.
    pub(crate) fn of(coding: &str) -> Option<Self> {
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip(flate2::write::MultiGzDecoder::new(Vec::new()))),
            "deflate" => Some(Self::Deflate(flate2::write::ZlibDecoder::new(Vec::new()))),
            _ => None,
        }
    }

    /// What this piece yields: all that can be read so far.
    ///
    /// # Errors
    ///
    /// If the bytes are not of this coding.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                decoder.get_mut()
            }
            Self::Deflate(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                decoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }
}

fn read(decoder: impl Read) -> io::Result<Vec<u8>> {
    let mut decoded = Vec::with_capacity(FIRST_RESERVE);
    append(&mut decoded, decoder)?;
    Ok(decoded)
}

fn append(decoded: &mut Vec<u8>, decoder: impl Read) -> io::Result<()> {
    let room = MAX_DECODED - decoded.len();
    let length = decoder.take(room as u64 + 1).read_to_end(decoded)?;
    if length > room { Err(io::Error::new(io::ErrorKind::FileTooLarge, "it decodes to too many bytes")) } else { Ok(()) }
}

/// A body may consist of several frames.
fn zstd(mut body: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoded = Vec::with_capacity(FIRST_RESERVE);
    while !body.is_empty() {
        let frame = ruzstd::decoding::StreamingDecoder::new(&mut body).map_err(|error| io::Error::other(error.to_string()))?;
        append(&mut decoded, frame)?;
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":"hello, hello, hello"}]}"#;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_of(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// `TEXT` as the reference encoder (node 24, `brotliCompressSync`) writes it at quality 11.
    const BROTLI: &[u8] = &[
        27, 87, 0, 0, 140, 211, 21, 243, 162, 132, 117, 15, 193, 109, 169, 175, 63, 218, 146, 73, 212, 38, 40, 200, 211, 91, 135, 165, 171,
        175, 83, 78, 4, 178, 90, 65, 152, 216, 221, 14, 30, 178, 166, 138, 216, 215, 161, 228, 94, 204, 51, 114, 237, 184, 47, 127, 52, 69,
        112, 71, 47, 216, 196, 178, 165, 64, 56, 197, 30, 215, 119,
    ];

    #[test]
    fn each_coding_is_decoded() {
        let text = TEXT.as_bytes();
        let two_frames = [zstd_of(&text[..20]), zstd_of(&text[20..])].concat();
        for (coding, body) in [
            (Coding::Gzip, gzip(text)),
            (Coding::Gzip, [gzip(&text[..20]), gzip(&text[20..])].concat()),
            (Coding::Deflate, zlib(text)),
            (Coding::Deflate, raw_deflate(text)),
            (Coding::Brotli, BROTLI.to_vec()),
            (Coding::Zstd, zstd_of(text)),
            (Coding::Zstd, two_frames),
        ] {
            assert_eq!(coding.decode(&body).as_deref(), Some(text), "{coding:?}");
        }
    }

    #[test]
    fn packed_stream_yields_each_event_as_it_comes() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut unpacker = Unpacker::of("GZIP").expect("known");
        for event in ["event: ping\n\n", "event: message_stop\n\n"] {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let piece = std::mem::take(encoder.get_mut());
            let (first, rest) = piece.split_at(piece.len() / 2);
            let got = [unpacker.feed(first).unwrap(), unpacker.feed(rest).unwrap()].concat();
            assert_eq!(got, event.as_bytes());
        }
        assert!(Unpacker::of("gzip").expect("known").feed(b"event: ping\n\n").is_err());
        assert!(Unpacker::of("br").is_none());
    }

    #[test]
    fn damaged_and_cut_bodies_are_not_decoded() {
        let text = TEXT.as_bytes();
        for (coding, body) in
            [(Coding::Gzip, gzip(text)), (Coding::Deflate, zlib(text)), (Coding::Brotli, BROTLI.to_vec()), (Coding::Zstd, zstd_of(text))]
        {
            assert_eq!(coding.decode(&body[..body.len() / 2]), None, "{coding:?}");
            assert_eq!(coding.decode(b"{}\xff\x00{}"), None, "{coding:?}");
        }
    }

    #[test]
    fn t16_a_bomb_is_not_decoded() {
        let zeros = vec![b' '; MAX_DECODED + 1];
        assert_eq!(Coding::Gzip.decode(&gzip(&zeros)), None);
        assert_eq!(Coding::Gzip.decode(&gzip(&zeros[1..])).map(|body| body.len()), Some(MAX_DECODED));
    }

    #[test]
    fn coding_is_read_from_its_header() {
        let of = |value: &'static str| {
            let headers = HeaderMap::from_iter([(http::header::CONTENT_ENCODING, http::HeaderValue::from_static(value))]);
            Coding::of(&headers).map_err(str::to_owned)
        };
        assert_eq!(of("GZIP"), Ok(Some(Coding::Gzip)));
        assert_eq!(of("br"), Ok(Some(Coding::Brotli)));
        assert_eq!(of("identity"), Ok(None));
        assert_eq!(of("gzip, gzip"), Err("gzip, gzip".to_owned()));
        assert_eq!(Coding::of(&HeaderMap::new()), Ok(None));
    }
}
