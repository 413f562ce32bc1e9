//! JSON files that carry their own checksum: `{"checksum": "xxh3:…", "body": …}`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use watershed_types::{Error, Result};

#[derive(Serialize)]
struct Sealed<'a> {
    checksum: String,
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Opened<'a> {
    checksum: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The checksum written into files and manifests: XXH3, 64 bits, as `xxh3:<16 hex digits>`.
pub fn checksum(bytes: &[u8]) -> String {
    format!("xxh3:{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// Serialises a value with its checksum.
pub fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let body = serde_json::value::to_raw_value(value).map_err(|e| Error::internal("CKPT0001", "a checkpoint file cannot be serialised").caused_by(e))?;
    let sealed = Sealed { checksum: checksum(body.get().as_bytes()), body: &body };
    let mut bytes = serde_json::to_vec(&sealed).map_err(|e| Error::internal("CKPT0001", "a checkpoint file cannot be serialised").caused_by(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The error for a file that cannot be used.
pub fn damaged(path: &str, what: &str) -> Error {
    Error::corrupt("CKPT0002", format!("checkpoint file \"{path}\" is damaged: {what}"))
        .hint("`watershed checkpoint diagnose` lists every damaged file, and shows the ways out; many lose nothing.")
}

/// Reads a value back; `path` is named in errors. A wrong checksum, a truncated file and a foreign file are all `Corrupt`.
pub fn open<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |what: &str| damaged(path, what);
    let opened: Opened = serde_json::from_slice(bytes).map_err(|e| damaged(&format!("not whole JSON ({e}; {} bytes)", bytes.len())))?;
    let found = checksum(opened.body.get().as_bytes());
    if found != opened.checksum {
        return Err(damaged(&format!("its checksum is {found}, recorded is {}", opened.checksum)));
    }
    serde_json::from_str(opened.body.get()).map_err(|e| damaged(&format!("its content does not fit this version ({e})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let sealed = seal(&serde_json::json!({"epoch": 12, "text": "größe"})).expect("serialises");
        let whole: serde_json::Value = open("x", &sealed).expect("reads back");
        assert_eq!(whole["epoch"], 12);
        for cut in 0..sealed.len() - 1 {
            assert!(open::<serde_json::Value>("x", &sealed[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..(sealed.len() - 1) * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = open::<serde_json::Value>("x", &bytes) {
                assert_eq!(read, whole, "bit {bit}");
            }
        }
    }
}
