//! Which servers get a new chunk: a weighted draw that every master repeats exactly. Integers only: floating-point
//! logarithms differ between machines.

use base::random::{SplitMix, mix};

use crate::chunk::ServerSet;

/// Draw up to `copies` of `candidates` (server, weight) without replacement, the chance of each proportional to its
/// weight. The order drawn is the chain order, so first places spread as well.
pub(crate) fn draw(mut candidates: Vec<(u32, u32)>, copies: usize, chunk: u64, seed: u64) -> ServerSet {
    candidates.retain(|&(_, weight)| weight > 0);
    let mut random = SplitMix(seed ^ mix(chunk));
    let mut drawn = ServerSet::default();
    while drawn.len() < copies && !candidates.is_empty() {
        let total: u64 = candidates.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let mut at = below(&mut random, total);
        let mut index = 0;
        while at >= u64::from(candidates[index].1) {
            at -= u64::from(candidates[index].1);
            index += 1;
        }
        let (server, _) = candidates.remove(index);
        if !drawn.push(server) {
            break;
        }
    }
    drawn
}

/// Uniform enough below `limit`: the bias is `limit` / 2^64.
fn below(random: &mut SplitMix, limit: u64) -> u64 {
    ((u128::from(random.draw()) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_chunk_and_seed_draw_the_same_servers() {
        let servers = vec![(1, 10), (2, 10), (3, 10), (4, 10)];
        assert_eq!(draw(servers.clone(), 3, 7, 42), draw(servers, 3, 7, 42));
    }

    #[test]
    fn a_server_without_weight_is_never_drawn_and_none_twice() {
        for chunk in 0..1000 {
            let set = draw(vec![(1, 1), (2, 0), (3, 5), (4, 1)], 7, chunk, chunk * 31);
            assert_eq!(set.len(), 3);
            assert!(!set.contains(2));
        }
    }

    #[test]
    fn weights_decide_how_often_a_server_is_drawn() {
        let mut first = [0u32; 3];
        for chunk in 0..30_000u64 {
            let set = draw(vec![(0, 100), (1, 200), (2, 300)], 1, chunk, 9);
            first[set.as_slice()[0] as usize] += 1;
        }
        assert!((4500..5500).contains(&first[0]), "{first:?}");
        assert!((9500..10_500).contains(&first[1]), "{first:?}");
    }

    #[test]
    fn equal_weights_spread_copies_within_a_few_percent() {
        let mut copies = [0u32; 5];
        for chunk in 0..20_000u64 {
            for &server in draw((0..5).map(|id| (id, 100)).collect(), 3, chunk, chunk.wrapping_mul(77)).as_slice() {
                copies[server as usize] += 1;
            }
        }
        for count in copies {
            assert!((11_600..12_400).contains(&count), "{copies:?}");
        }
    }
}
