//! Permission bits whose rules more than one plane follows.

/// `mode` after somebody who may not keep set-id bits changed the file: without set-user-id, and without set-group-id
/// where it means one, or where they are no `member` of the file's group. Source: inode(7), write(2), chown(2).
pub fn without_set_id(mode: u32, member: bool) -> u32 {
    let group_id_goes = mode & libc::S_IXGRP != 0 || !member;
    mode & !(libc::S_ISUID | if group_id_goes { libc::S_ISGID } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_user_id_goes_and_set_group_id_where_it_means_one_or_for_a_stranger() {
        assert_eq!(without_set_id(0o6777, true), 0o777);
        assert_eq!(without_set_id(0o6767, true), 0o2767, "mandatory locking, not an identity");
        assert_eq!(without_set_id(0o6767, false), 0o767);
        assert_eq!(without_set_id(0o1755, false), 0o1755);
    }
}
