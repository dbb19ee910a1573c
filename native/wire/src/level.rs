//! The cluster level: a number for what the masters of a cluster may commit. Software of another release lacks operations,
//! or would read a record differently; so a level rises by a committed command, once every master said that it can do it,
//! and never falls. What a level brought is refused below it.

use crate::proto::{Command, admin_command, command};

/// Of a cluster whose masters say nothing of levels.
pub const FIRST: u32 = 1;
/// What this software can do. 2 brought snapshots of format 4, with versioned inodes.
pub const LEVEL: u32 = 2;

/// The level that a field of a message says; masters that know of none leave it out.
pub fn said(field: u32) -> u32 {
    field.max(FIRST)
}

/// The level that a master must be able to do to apply this command.
pub fn needed_by(command: &Command) -> u32 {
    match &command.what {
        Some(command::What::Name(request)) => request.op.as_ref().map_or(FIRST, |op| crate::op::of(op).level),
        Some(command::What::Admin(order)) => match &order.op {
            Some(admin_command::Op::RaiseLevel(raise)) => raise.level,
            _ => FIRST,
        },
        None => FIRST,
    }
}

/// The level to agree on next: all can do more than is agreed. `able`: of each member, `None` where it did not answer.
pub fn next(agreed: u32, able: impl IntoIterator<Item = Option<u32>>) -> Option<u32> {
    let able: Option<Vec<u32>> = able.into_iter().collect();
    able?.into_iter().min().filter(|least| *least > agreed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_rises_when_every_member_can_do_more_and_only_then() {
        assert_eq!(next(1, [Some(2), Some(3), Some(2)]), Some(2));
        assert_eq!(next(1, [Some(2), Some(1), Some(2)]), None);
        assert_eq!(next(1, [Some(2), None, Some(2)]), None);
        assert_eq!(next(2, [Some(2), Some(3)]), None);
        assert_eq!(next(3, [Some(2)]), None);
        assert_eq!(next(1, []), None);
    }

    #[test]
    fn no_operation_is_above_what_this_software_can_do() {
        assert!(crate::op::TABLE.iter().all(|row| (FIRST..=LEVEL).contains(&row.level)));
    }
}
