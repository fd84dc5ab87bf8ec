//! Writes a selector table in the image's form: see [`sg_common::image`].

use sg_common::{
    image::{INNER_ENDS, LEAF_RANGES, Node, RuleWord, class_word},
    verdict::RuleNumber,
};

use super::{
    arena::{Arena, Full},
    table::{Opening, Piece, Table},
};

/// The tag and payload of `table`; ranks index `numbers`.
pub(super) fn plant(arena: &mut Arena, table: &Table, numbers: &[RuleNumber]) -> Result<[u32; 2], Full> {
    if let Some(entry) = table.entry.get() {
        return Ok(*entry);
    }
    let word = |opening: Opening| match opening.rank() {
        Some(rank) => RuleWord::new(numbers[rank as usize], opening.is_anywhere()).0,
        None => RuleWord::NONE.0,
    };
    let planted = match table.pieces() {
        [Piece { opening: Opening::NONE, .. }] => [class_word::NONE, 0],
        [piece] => [class_word::ALL, word(piece.opening)],
        pieces => {
            let (root, levels) = tree(arena, pieces, word)?;
            [class_word::TREE + levels, root]
        }
    };
    Ok(*table.entry.get_or_init(|| planted))
}

/// The root of a tree over `pieces`, and how many inner levels it has.
fn tree(arena: &mut Arena, pieces: &[Piece], word: impl Fn(Opening) -> u32) -> Result<(u32, u32), Full> {
    // The nodes of a level, and beside them the last value of each.
    let (mut nodes, mut ends): (Vec<Node>, Vec<u16>) = pieces
        .chunks(LEAF_RANGES)
        .map(|pieces| {
            let mut leaf = Node::ZERO;
            write_ends(&mut leaf.words[..LEAF_RANGES / 2], pieces.iter().map(|piece| piece.end));
            for (to, piece) in leaf.words[LEAF_RANGES / 2..].iter_mut().zip(pieces) {
                *to = word(piece.opening);
            }
            (leaf, pieces[pieces.len() - 1].end)
        })
        .unzip();
    let mut levels = 0;
    while nodes.len() > 1 {
        let children = nodes.chunks(INNER_ENDS + 1).zip(ends.chunks(INNER_ENDS + 1));
        let mut above = Vec::with_capacity(children.len());
        for (children, ends) in children {
            let (last, ends) = (ends[ends.len() - 1], &ends[..ends.len() - 1]);
            let mut inner = Node::ZERO;
            write_ends(&mut inner.words[..INNER_ENDS / 2], ends.iter().copied());
            inner.words[15] = arena.block(children)?;
            above.push((inner, last));
        }
        (nodes, ends) = above.into_iter().unzip();
        levels += 1;
    }
    Ok((arena.block(&nodes)?, levels))
}

/// Two ends to a word, the low half first; all ones where there are no more.
fn write_ends(words: &mut [u32], mut ends: impl Iterator<Item = u16>) {
    for word in words {
        let low = ends.next().unwrap_or(u16::MAX);
        let high = ends.next().unwrap_or(u16::MAX);
        *word = u32::from(low) | u32::from(high) << 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_ends_are_never_below_a_value() {
        let mut words = [0; 3];
        write_ends(&mut words, [7, 9, 11].into_iter());
        assert_eq!(words, [9 << 16 | 7, 0xffff << 16 | 11, u32::MAX]);
    }
}
