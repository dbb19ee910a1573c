//! The cluster level: a number for what the masters of a cluster may commit. Software of another release lacks operations,
//! or would read a record differently; so a level rises by a committed command, once every master said that it can do it,
//! and never falls. What a level brought is refused below it.

use crate::proto::name_request::Op;
use crate::proto::{Command, NameRequest, admin_command, command};

/// Of a cluster whose masters say nothing of levels.
pub const FIRST: u32 = 1;
/// What this software can do. 2 brought snapshots of format 4, with versioned inodes, and special files; 3 extended
/// attributes and access control lists, and with them the mode before the umask, the times that were told of
/// writes, times of birth, files without a name and whiteouts.
pub const LEVEL: u32 = 3;
/// RENAME_WHITEOUT of renameat2(2).
const WHITEOUT: u32 = 4;
/// Fields and flags of operations that were there before.
const LATER_FIELDS: u32 = 3;

/// The level that a field of a message says; masters that know of none leave it out.
pub fn said(field: u32) -> u32 {
    field.max(FIRST)
}

/// The level that a master must be able to do to apply this command.
pub fn needed_by(command: &Command) -> u32 {
    match &command.what {
        Some(command::What::Name(request)) => {
            let fields = if has_later_fields(request) { LATER_FIELDS } else { FIRST };
            request.op.as_ref().map_or(FIRST, asked).max(fields)
        }
        Some(command::What::Admin(order)) => match &order.op {
            Some(admin_command::Op::RaiseLevel(raise)) => raise.level,
            _ => FIRST,
        },
        None => FIRST,
    }
}

/// The level that brought what this operation asks for.
pub fn asked(op: &Op) -> u32 {
    let later = match op {
        Op::Create(op) => op.unnamed,
        Op::Rename(op) => op.flags & WHITEOUT != 0,
        _ => false,
    };
    if later { LATER_FIELDS } else { crate::op::of(op).level }
}

macro_rules! later_fields {
    ($($operation:ident . $field:ident;)+) => {
        fn has_later_fields(request: &NameRequest) -> bool {
            match &request.op {
                $(Some(Op::$operation(op)) => op.$field.is_some(),)+
                _ => false,
            }
        }

        fn take_later_fields(request: &mut NameRequest) {
            match &mut request.op {
                $(Some(Op::$operation(op)) => op.$field = None,)+
                _ => {}
            }
        }
    };
}

later_fields! {
    Create.full_mode;
    Mkdir.full_mode;
    MakeNode.full_mode;
    WriteInline.times;
    CommitWrite.times;
}

/// Take out the fields that masters of the agreed level do not know: what they say counts from their level on only.
pub fn fit(request: &mut NameRequest, agreed: impl FnOnce() -> u32) {
    if has_later_fields(request) && agreed() < LATER_FIELDS {
        take_later_fields(request);
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
    fn a_field_of_a_later_level_is_taken_out_below_it_and_makes_a_command_one_of_that_level() {
        use crate::proto::{CommitWrite, Create, MakeNode, MkDir, Times, WriteInline};
        let (mode, full_mode) = (0o600, Some(0o666));
        let ops = [
            Op::Create(Create { mode, full_mode, ..Create::default() }),
            Op::Mkdir(MkDir { mode, full_mode, ..MkDir::default() }),
            Op::MakeNode(MakeNode { mode, full_mode, ..MakeNode::default() }),
            Op::WriteInline(WriteInline { times: Some(Times::default()), ..WriteInline::default() }),
            Op::CommitWrite(CommitWrite { times: Some(Times::default()), ..CommitWrite::default() }),
        ];
        for op in ops {
            let mut request = NameRequest { op: Some(op), ..NameRequest::default() };
            let needed = |request: &NameRequest| {
                needed_by(&Command { what: Some(command::What::Name(request.clone())), ..Command::default() })
            };
            fit(&mut request, || LATER_FIELDS);
            assert_eq!(needed(&request), LATER_FIELDS);
            fit(&mut request, || LATER_FIELDS - 1);
            assert!(needed(&request) < LATER_FIELDS);
        }
    }

    #[test]
    fn a_flag_of_a_later_level_makes_an_operation_one_of_that_level() {
        use crate::proto::{Create, Rename};
        assert_eq!(asked(&Op::Create(Create { unnamed: true, ..Create::default() })), LATER_FIELDS);
        assert_eq!(asked(&Op::Rename(Rename { flags: WHITEOUT | 1, ..Rename::default() })), LATER_FIELDS);
        assert_eq!(asked(&Op::Rename(Rename { flags: 2, ..Rename::default() })), FIRST);
    }

    #[test]
    fn no_operation_is_above_what_this_software_can_do() {
        assert!(crate::op::TABLE.iter().all(|row| (FIRST..=LEVEL).contains(&row.level)));
    }
}
