//! Whose disk a directory is: the file `mooseng-disk.json`. It never guesses: what it cannot read whole, it refuses.
//! Source: FORMAT.md, "Chunkserver directory".

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base::crc::crc32c;
use base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::fs::Fs;

pub const FILE_NAME: &str = "mooseng-disk.json";
const MAGIC: &str = "mooseng-disk";
const FORMAT: u32 = 1;
/// Larger than any identity: a bigger file is not ours.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub magic: String,
    pub format: u32,
    pub cluster_id: String,
    pub server_id: u32,
    /// 32 hexadecimal digits.
    pub disk_uuid: String,
    /// All disks this server ever used, uuid to path: tells a new disk from one that is not mounted.
    pub siblings: BTreeMap<String, PathBuf>,
    /// CRC-32C, 8 hexadecimal digits, of the same JSON with this field empty.
    pub checksum: String,
}

impl Identity {
    pub fn new(fs: &Fs, cluster_id: &str, server_id: u32) -> io::Result<Identity> {
        let mut random = [0u8; 16];
        fs.random(&mut random)?;
        Ok(Identity {
            magic: MAGIC.to_string(),
            format: FORMAT,
            cluster_id: cluster_id.to_string(),
            server_id,
            disk_uuid: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            siblings: BTreeMap::new(),
            checksum: String::new(),
        })
    }

    pub fn uuid_bytes(&self) -> Option<[u8; 16]> {
        let text = self.disk_uuid.as_bytes();
        let mut bytes = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(self.disk_uuid.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    }

    fn sum(&self) -> String {
        let bare = Identity { checksum: String::new(), ..self.clone() };
        format!("{:08x}", crc32c(&serde_json::to_vec(&bare).unwrap_or_default()))
    }

    fn decode(text: &[u8]) -> std::result::Result<Identity, String> {
        let identity: Identity =
            serde_json::from_slice(text).map_err(|error| format!("it does not parse ({error})"))?;
        if identity.magic != MAGIC || identity.format != FORMAT {
            return Err(format!("it is of format {:?} {}", identity.magic, identity.format));
        }
        if identity.sum() != identity.checksum || identity.uuid_bytes().is_none() {
            return Err("its checksum is wrong".to_string());
        }
        Ok(identity)
    }

    /// The directory's identity; None when it has none.
    pub fn load(fs: &Fs, directory: &Path) -> Result<Option<Identity>> {
        let path = directory.join(FILE_NAME);
        let text = match fs.read_small(&path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Identity::decode(&text).map(Some).map_err(|why| {
            Error::namespace(
                libc::EINVAL,
                format!(
                    "{} is damaged: {why}; restore it, or empty the directory to start the disk anew",
                    path.display()
                ),
            )
        })
    }

    /// Replace the directory's identity atomically and durably.
    pub fn save(&mut self, fs: &Fs, directory: &Path) -> io::Result<()> {
        self.checksum = self.sum();
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        fs.replace_small(&directory.join(FILE_NAME), &text)
    }
}

/// Refuse a disk of another cluster or server.
pub fn check_owner(path: &Path, identity: &Identity, cluster_id: &str, server_id: u32) -> Result<()> {
    let foreign = |what: &str, theirs: &str, ours: &str| {
        let message = format!(
            "{} belongs to {what} {theirs}, not to {ours}; give this chunkserver another directory, or the right {what}",
            path.display()
        );
        Err(Error::namespace(libc::EPERM, message))
    };
    if identity.cluster_id != cluster_id {
        return foreign("cluster", &identity.cluster_id, cluster_id);
    }
    if identity.server_id != server_id {
        return foreign("server", &identity.server_id.to_string(), &server_id.to_string());
    }
    Ok(())
}

/// What a directory without identity may hold and still count as empty.
pub fn is_empty(fs: &Fs, directory: &Path) -> io::Result<bool> {
    for path in fs.list(directory)? {
        let name = path.file_name().unwrap_or_default();
        // An unfinished format of ours leaves the third.
        if name != "lost+found" && name != format!("{FILE_NAME}.new").as_str() {
            return Ok(false);
        }
    }
    Ok(true)
}
