//! Sequential 1 MiB writes and one sync per chunk through the store, against a plain loop in the same directory.
//! Usage: cargo run --release -p mooseng-chunk --example rate -- DIR [CHUNKS]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base::Buffer;
use base::crc::piece_crcs;
use base::limits::CHUNK_BYTES;
use chunk::{ChunkRef, DirectIo, Sender, Store, StoreConfig, bench::plain_loop};

const STEP: usize = 1 << 20;

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e6
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: rate DIR [CHUNKS]")?);
    let chunks: u64 = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let disk = directory.join("store");
    std::fs::create_dir_all(&disk)?;
    let config = StoreConfig {
        disks: vec![disk],
        server_id: 1,
        cluster_id: "rate".to_string(),
        direct_io: DirectIo::Auto,
        reserve_bytes: 0,
    };
    let store = Store::open(config)?;
    println!("direct I/O wins here: {}", store.disks()[0].direct_io);
    let mut data = Buffer::take(CHUNK_BYTES as usize);
    for (i, byte) in data.iter_mut().enumerate() {
        *byte = (i as u32).wrapping_mul(0x9E37_79B9).to_le_bytes()[3];
    }
    let first = &data[..STEP];
    let crcs = piece_crcs(0, first);
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(base::crc::check_pieces(0, first, &crcs).is_ok());
    }
    println!("checksums of 1 MiB verified: {:.0} us", start.elapsed().as_secs_f64() * 1e3);
    for round in 0..5 {
        let mut plain = Duration::ZERO;
        for _ in 0..chunks {
            plain += plain_loop(&directory, &data, true)?;
        }
        let mut own = Duration::ZERO;
        for id in 1..=chunks {
            let chunk = ChunkRef { id, version: 1 };
            let start = Instant::now();
            for (offset, piece) in (0..).step_by(STEP).zip(data.chunks(STEP)) {
                store.write_own(chunk, offset, piece, true)?;
            }
            store.sync(chunk)?;
            own += start.elapsed();
        }
        let start = Instant::now();
        for id in 1..=chunks {
            for (offset, piece) in (0..).step_by(STEP).zip(data.chunks(STEP)) {
                let read = store.read(ChunkRef { id, version: 1 }, offset, STEP as u32)?;
                assert!(read.data[..] == *piece);
            }
        }
        let reading = start.elapsed();
        let bytes = chunks * CHUNK_BYTES;
        println!(
            "round {round}: plain {:.0} MB/s, store {:.0} MB/s ({:.0} %), read {:.0} MB/s",
            rate(bytes, plain),
            rate(bytes, own),
            100.0 * plain.as_secs_f64() / own.as_secs_f64(),
            rate(bytes, reading),
        );
        for id in 1..=chunks {
            store.delete(ChunkRef { id, version: 1 })?;
        }
    }
    let chunk = ChunkRef { id: 1, version: 1 };
    let start = Instant::now();
    for id in 100..1100 {
        let chunk = ChunkRef { id, version: 1 };
        store.write(chunk, Sender::default(), 0, &data[..65536], &crcs[..64], true)?;
        store.sync(chunk)?;
    }
    println!("64 KiB chunk created, written, synced: {:.0} us", start.elapsed().as_secs_f64() * 1e3);
    store.write(chunk, Sender::default(), 0, first, &crcs, true)?;
    store.sync(chunk)?;
    let start = Instant::now();
    for _ in 0..1000 {
        store.write(chunk, Sender::default(), 4096, &data[..4096], &crcs[..4], true)?;
        store.sync(chunk)?;
    }
    println!("4 KiB overwritten in place, synced: {:.0} us", start.elapsed().as_secs_f64() * 1e3);
    println!("{:?}", store.counters());
    Ok(())
}
