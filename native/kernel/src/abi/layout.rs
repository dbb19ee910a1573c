//! How structures become bytes and bytes structures: field by field in the order of the header, in the machine's own
//! order of bytes. Each layout is checked against its size in the header, and for padding, when this is compiled.

/// Bytes not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn get<T: Field>(&mut self) -> Option<T> {
        T::get(self)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Up to a NUL, which is taken and left out.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let found = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(found)
    }
}

/// The largest reply of fixed size with its header: STATX.
pub const OUT_BYTES: usize = 16 + 288;

/// A header and a structure behind it, on the stack.
#[derive(Clone, Debug)]
pub struct Out {
    bytes: [u8; OUT_BYTES],
    len: usize,
}

impl Out {
    pub fn empty() -> Out {
        Out { bytes: [0; OUT_BYTES], len: 0 }
    }

    pub fn with(mut self, field: &impl Field) -> Out {
        field.put(&mut self);
        self
    }

    /// The caller holds what is put together to `OUT_BYTES`: no structure here is longer.
    fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A value with a fixed size and place in a structure.
pub trait Field: Sized {
    fn get(reader: &mut Reader<'_>) -> Option<Self>;
    fn put(&self, out: &mut Out);
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn get(reader: &mut Reader<'_>) -> Option<$kind> {
                let (bytes, rest) = reader.0.split_first_chunk()?;
                reader.0 = rest;
                Some(<$kind>::from_ne_bytes(*bytes))
            }

            fn put(&self, out: &mut Out) {
                out.extend(&self.to_ne_bytes());
            }
        }
    )*};
}

numbers!(u16, u32, u64, i32, i64);

impl<T: Field + Copy + Default, const N: usize> Field for [T; N] {
    fn get(reader: &mut Reader<'_>) -> Option<[T; N]> {
        let mut values = [T::default(); N];
        for value in &mut values {
            *value = T::get(reader)?;
        }
        Some(values)
    }

    fn put(&self, out: &mut Out) {
        for value in self {
            value.put(out);
        }
    }
}

/// Structures, each with its size in the header.
macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident $size:literal { $($(#[$about:meta])* $field:ident: $kind:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$about])* pub $field: $kind),*
        }

        // As large as in the header, and its fields fill it: nothing is padding that only the compiler knows.
        const _: () = assert!(size_of::<$name>() == $size && 0 $(+ size_of::<$kind>())* == $size);

        impl $crate::abi::layout::Field for $name {
            fn get(reader: &mut $crate::abi::layout::Reader<'_>) -> Option<$name> {
                Some($name { $($field: reader.get()?),* })
            }

            fn put(&self, out: &mut $crate::abi::layout::Out) {
                $(self.$field.put(out);)*
            }
        }
    )*};
}

pub(super) use layouts;
