//! What the numbers among the settings may be, said once: a node checks with it, and the Python side is made from it.

use crate::{Error, Result};

/// Bounds of one number, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: &'static str,
    pub least: u64,
    pub most: u64,
    /// None: it must be given.
    pub default: Option<u64>,
}

impl Limit {
    /// One sentence when `value` is out of bounds.
    pub fn check(&self, value: u64) -> Result<()> {
        let Limit { name, least, most, .. } = *self;
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(Error::namespace(libc::EINVAL, format!("{name} is {value}; it must be {least} to {most}")))
    }
}

/// One number of the settings `C`, and where it stands in them.
pub struct Number<C> {
    pub limit: Limit,
    pub of: fn(&C) -> u64,
}

/// Refuse the first number that is out of bounds.
pub fn check<C>(numbers: &[Number<C>], settings: &C) -> Result<()> {
    numbers.iter().try_for_each(|number| number.limit.check((number.of)(settings)))
}

/// `NUMBERS` of some settings, and in `default` a function for serde for each that has one.
/// `given { name: least, most; } default { name = default, least, most; }`.
#[macro_export]
macro_rules! numbers {
    (
        $settings:ty,
        given { $($given:ident: $given_least:expr, $given_most:expr;)* }
        default { $($name:ident = $default:expr, $least:expr, $most:expr;)* }
    ) => {
        /// What the numbers among these settings may be.
        pub const NUMBERS: &[$crate::setting::Number<$settings>] = &[
            $($crate::numbers!(@one $given, $given_least, $given_most, None),)*
            $($crate::numbers!(@one $name, $least, $most, Some($default)),)*
        ];

        mod default {
            $(pub fn $name<T: TryFrom<u64>>() -> T {
                T::try_from($default).unwrap_or_else(|_| unreachable!("the default fits its type"))
            })*
        }
    };
    (@one $name:ident, $least:expr, $most:expr, $default:expr) => {
        $crate::setting::Number {
            limit: $crate::setting::Limit { name: stringify!($name), least: $least, most: $most, default: $default },
            of: |settings| u64::try_from(settings.$name).unwrap_or(u64::MAX),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    pub struct Settings {
        id: u16,
        copies: u32,
    }

    numbers! { Settings,
        given { id: 1, 255; }
        default { copies = 3, 1, 7; }
    }

    #[test]
    fn a_number_out_of_bounds_is_named_with_them() {
        assert!(check(NUMBERS, &Settings { id: 255, copies: 7 }).is_ok());
        let error = check(NUMBERS, &Settings { id: 1, copies: 8 }).unwrap_err();
        assert_eq!((error.errno, error.message.as_str()), (libc::EINVAL, "copies is 8; it must be 1 to 7"));
        assert!(check(NUMBERS, &Settings { id: 0, copies: 1 }).is_err());
    }

    #[test]
    fn what_must_be_given_has_no_default() {
        assert_eq!(NUMBERS.iter().map(|number| number.limit.default).collect::<Vec<_>>(), [None, Some(3)]);
        assert_eq!(default::copies::<u32>(), 3);
    }
}
