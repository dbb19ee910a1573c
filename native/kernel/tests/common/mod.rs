//! Requests as bytes, put together field by field as the header lists them.

pub const HEADER_BYTES: usize = 40;
pub const UNIQUE: u64 = 0x1234;
pub const INODE: u64 = 42;

/// A body of little pieces.
#[derive(Clone, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn u32(mut self, value: u32) -> Bytes {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Bytes {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// With its NUL.
    pub fn name(mut self, name: &str) -> Bytes {
        self.0.extend(name.bytes().chain([0]));
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend(bytes);
        self
    }
}

pub fn body() -> Bytes {
    Bytes::default()
}

/// With a header of root's process 7, about inode 42.
pub fn request(opcode: u32, body: Bytes) -> Vec<u8> {
    extended(opcode, body, Bytes::default())
}

pub fn extended(opcode: u32, body: Bytes, extensions: Bytes) -> Vec<u8> {
    let len = HEADER_BYTES + body.0.len() + extensions.0.len();
    let header = Bytes::default().u32(len as u32).u32(opcode).u64(UNIQUE).u64(INODE).u32(1000).u32(100).u32(7);
    let units = (extensions.0.len() / 8) as u16;
    header.bytes(&units.to_ne_bytes()).bytes(&[0; 2]).bytes(&body.0).bytes(&extensions.0).0
}

/// Make the length in the header that of the bytes.
pub fn with_true_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = (bytes.len() as u32).to_ne_bytes();
    if let Some(place) = bytes.first_chunk_mut() {
        *place = len;
    }
    bytes
}
