//! Both ends against each other and against arbitrary memory.

use super::*;

const DATA: usize = 4096;
const HEADER: usize = DATA;
const WORDS: u32 = DATA as u32 / 4;

/// A ring of one page, with its header behind it.
fn ring() -> Ring {
    let mapping = Mapping::private(HEADER + ring_header::LEN).unwrap();
    Ring::new(Arc::new(mapping), HEADER, 0, DATA).unwrap()
}

fn ends() -> (Writer, Reader) {
    let ring = ring();
    (Writer::new(ring.clone()), Reader::new(ring))
}

fn take(reader: &mut Reader) -> Result<Option<Vec<u8>>, Broken> {
    let mut message = Vec::new();
    Ok(reader.take(&mut message, 1, DATA)?.then_some(message))
}

#[test]
fn messages_of_all_sizes_come_out_in_order_and_wrap() {
    let (mut writer, mut reader) = ends();
    for round in 0..3000u32 {
        let len = 1 + (round as usize * 7919) % (DATA - MARGIN);
        let message: Vec<u8> = (0..len).map(|i| (i as u32).wrapping_add(round) as u8).collect();
        let (head, tail) = message.split_at(len / 3);
        assert_eq!(writer.put(&[head, tail]), Ok(true), "round {round} of {len} bytes");
        assert_eq!(take(&mut reader), Ok(Some(message)), "round {round} of {len} bytes");
        assert_eq!(take(&mut reader), Ok(None));
    }
}

#[test]
fn a_chunk_that_fits_an_empty_ring_exactly() {
    let (mut writer, mut reader) = ends();
    assert_eq!(writer.put(&[&[1; DATA - MARGIN]]), Ok(true));
    assert_eq!(writer.put(&[&[1]]), Ok(false));
    assert_eq!(take(&mut reader), Ok(Some(vec![1; DATA - MARGIN])));
    assert_eq!(writer.put(&[&[1; DATA - MARGIN + 1]]), Ok(false));
}

#[test]
fn a_full_ring_takes_no_more_until_it_is_read() {
    let (mut writer, mut reader) = ends();
    let mut count = 0;
    while writer.put(&[&[9; 100]]) == Ok(true) {
        count += 1;
    }
    assert_eq!(count, (DATA - 4 - MARGIN) / 108 + usize::from((DATA - 4) % 108 >= 112));
    assert_eq!(take(&mut reader), Ok(Some(vec![9; 100])));
    assert_eq!(writer.put(&[&[9; 100]]), Ok(true));
    for _ in 0..count {
        assert_eq!(take(&mut reader), Ok(Some(vec![9; 100])));
    }
    assert_eq!(take(&mut reader), Ok(None));
}

#[test]
fn the_bytes_are_those_of_libqb() {
    let (mut writer, mut reader) = ends();
    assert!(writer.put(&[b"0123456789"]).unwrap());
    let ring = reader.ring().clone();
    let words = |from: u32| [0, 1, 2].map(|i| ring.word(from + i).load(Ordering::Relaxed));
    assert_eq!(words(0), [10, 0xa1a1_a1a1, u32::from_le_bytes(*b"0123")]);
    assert_eq!(ring.field(ring_header::WRITE_INDEX).load(Ordering::Relaxed), 5);
    assert_eq!(ring.semaphore().load(Ordering::Relaxed), 1);
    take(&mut reader).unwrap().unwrap();
    assert_eq!(words(0)[..2], [0, 0xd0d0_d0d0]);
    assert_eq!(ring.field(ring_header::READ_INDEX).load(Ordering::Relaxed), 5);
    assert_eq!(ring.semaphore().load(Ordering::Relaxed), 0);
}

#[test]
fn the_shared_copies_of_our_own_indices_are_never_read() {
    let (mut writer, mut reader) = ends();
    let ring = reader.ring().clone();
    for absurd in [WORDS, u32::MAX, 3] {
        ring.field(ring_header::WORDS).store(0, Ordering::Relaxed);
        ring.field(ring_header::WRITE_INDEX).store(absurd, Ordering::Relaxed);
        assert!(writer.put(&[b"message"]).unwrap());
        ring.field(ring_header::READ_INDEX).store(absurd, Ordering::Relaxed);
        assert_eq!(take(&mut reader), Ok(Some(b"message".to_vec())));
    }
}

#[test]
fn nonsense_from_the_other_end_is_refused() {
    for absurd in [WORDS, WORDS + 1, u32::MAX] {
        let (mut writer, reader) = ends();
        reader.ring().field(ring_header::READ_INDEX).store(absurd, Ordering::Relaxed);
        assert_eq!(writer.put(&[b"x"]), Err(Broken("read index")));
    }
    for (len, state) in
        [(10, 0), (10, STATE_ALLOCATED), (10, STATE_CONSUMED), (10, u32::MAX), (0, STATE_COMMITTED)]
    {
        let (_, mut reader) = ends();
        sem::post(reader.ring().semaphore());
        reader.ring().word(0).store(len, Ordering::Relaxed);
        reader.ring().word(1).store(state, Ordering::Relaxed);
        assert!(take(&mut reader).is_err(), "{len} {state:#x}");
    }
    for len in [DATA as u32 - 11, DATA as u32, 0xffff_fff0, u32::MAX] {
        let (_, mut reader) = ends();
        sem::post(reader.ring().semaphore());
        reader.ring().word(0).store(len, Ordering::Relaxed);
        reader.ring().word(1).store(STATE_COMMITTED, Ordering::Relaxed);
        assert!(take(&mut reader).is_err(), "{len}");
    }
}

#[test]
fn limits_of_the_caller_hold() {
    for (len, good) in [(15, false), (16, true), (64, true), (65, false)] {
        let (mut writer, mut reader) = ends();
        assert!(writer.put(&[&vec![0; len]]).unwrap());
        assert_eq!(reader.take(&mut Vec::new(), 16, 64).is_ok(), good, "{len}");
    }
}

#[test]
fn closing_shows_no_reference() {
    let ring = ring();
    ring.references().store(2, Ordering::Relaxed);
    ring.close();
    assert_eq!(ring.references().load(Ordering::Relaxed), 0);
}
