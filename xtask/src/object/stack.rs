//! How much of the stack each chain of calls in the object takes, as old kernels count it.
//!
//! A program and all that it calls have 512 bytes together. Kernels before 6.8 round what each
//! function takes up to 32 bytes, later ones to 16, so that a chain which the running kernel takes
//! can be too deep for an older one. The sum is the verifier's; what a function takes is read off
//! its instructions, as the lowest address below the frame pointer that one of them makes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind};

/// What all functions of a chain have together.
const LIMIT: u32 = 512;
/// What kernels before 6.8 round to.
const STEP: u32 = 32;
/// Bytes in an instruction.
const INSTRUCTION: usize = 8;
/// The register that holds the frame pointer.
const FRAME: u8 = 10;

/// Where a function begins: its section and the offset there.
type Address = (usize, u64);

/// A function of the object.
struct Function {
    name: String,
    /// Bytes of stack that it takes itself.
    own: u32,
    calls: Vec<Address>,
}

/// The deepest chain of calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deepest {
    /// Bytes, each function's part rounded up.
    pub(crate) total: u32,
    /// Every function on the way, with its own part.
    pub(crate) chain: String,
}

/// Finds the deepest chain of `object`.
///
/// # Errors
/// It is deeper than any kernel allows, or a call leads to no function.
pub(crate) fn check(object: &object::File<'_>) -> Result<Deepest> {
    let functions = functions(object)?;
    let mut deepest = Deepest { total: 0, chain: String::new() };
    for address in functions.keys() {
        let found = chain(&functions, *address, 0)?;
        if found.total > deepest.total {
            deepest = found;
        }
    }
    if deepest.total > LIMIT {
        bail!(
            "{} bytes of stack, of which a program and all that it calls have {LIMIT}: {}; kernels before 6.8 \
             count every function in steps of {STEP}",
            deepest.total,
            deepest.chain
        );
    }
    Ok(deepest)
}

/// The deepest chain that begins at `address`, `depth` calls down.
fn chain(functions: &BTreeMap<Address, Function>, address: Address, depth: u32) -> Result<Deepest> {
    /// The verifier's own.
    const CALLS: u32 = 8;
    let function = functions
        .get(&address)
        .with_context(|| format!("a call to {:#x}, where no function is", address.1))?;
    if depth > CALLS {
        bail!("`{}` is called more than {CALLS} calls down", function.name);
    }
    let mut below = Deepest { total: 0, chain: String::new() };
    for callee in &function.calls {
        let found = chain(functions, *callee, depth + 1)?;
        if found.total > below.total {
            below = found;
        }
    }
    let arrow = if below.chain.is_empty() { "" } else { " > " };
    Ok(Deepest {
        total: function.own.max(1).next_multiple_of(STEP) + below.total,
        chain: format!("{} {}{arrow}{}", function.name, function.own, below.chain),
    })
}

fn functions(object: &object::File<'_>) -> Result<BTreeMap<Address, Function>> {
    let mut functions = BTreeMap::new();
    for section in object.sections().filter(|section| section.kind() == SectionKind::Text) {
        let code = section.data()?;
        let mut moved = BTreeMap::new();
        for (offset, relocation) in section.relocations() {
            if let RelocationTarget::Symbol(symbol) = relocation.target() {
                let symbol = object.symbol_by_index(symbol)?;
                moved.insert(offset, (symbol.section_index(), symbol.address()));
            }
        }
        for symbol in object.symbols().filter(|symbol| symbol.section_index() == Some(section.index())) {
            if symbol.kind() != object::SymbolKind::Text || symbol.size() == 0 {
                continue;
            }
            let range = symbol.address() as usize..(symbol.address() + symbol.size()) as usize;
            let body = code.get(range).context("a function that is not in its section")?;
            let target = |at: usize, immediate: i32| {
                let at = symbol.address() + at as u64;
                let (base, from) = match moved.get(&at) {
                    Some((Some(section), address)) => (section.0, *address),
                    _ => (section.index().0, at),
                };
                let step = (i64::from(immediate) + 1) * INSTRUCTION as i64;
                (base, from.wrapping_add_signed(step))
            };
            let (own, calls) = read(body, target);
            let name = symbol.name()?.to_owned();
            functions.insert((section.index().0, symbol.address()), Function { name, own, calls });
        }
    }
    Ok(functions)
}

/// What a function takes, and whom it calls. `target` tells where a call leads.
fn read(body: &[u8], target: impl Fn(usize, i32) -> Address) -> (u32, Vec<Address>) {
    const LOAD: u8 = 1;
    const STORES: [u8; 2] = [2, 3];
    const MOVE: u8 = 0xbf;
    const ADD: u8 = 0x07;
    const CALL: u8 = 0x85;
    const CALL_FUNCTION: u8 = 1;
    const ARITHMETIC: [u8; 2] = [4, 7];
    let mut lowest = 0_i32;
    let mut calls = Vec::new();
    // For each register, how far from the frame pointer it points.
    let mut offsets = [None; 16];
    if let Some(frame) = offsets.get_mut(usize::from(FRAME)) {
        *frame = Some(0_i32);
    }
    for (number, word) in body.chunks_exact(INSTRUCTION).enumerate() {
        let &[code, registers, offset_low, offset_high, a, b, c, d] = word else { continue };
        let (to, from) = (usize::from(registers & 0xf), usize::from(registers >> 4));
        let offset = i32::from(i16::from_le_bytes([offset_low, offset_high]));
        let immediate = i32::from_le_bytes([a, b, c, d]);
        let class = code & 7;
        if let Some(base) = if class == LOAD { offsets[from] } else { offsets[to] }
            && (class == LOAD || STORES.contains(&class))
        {
            lowest = lowest.min(base + offset);
        }
        match code {
            MOVE => offsets[to] = offsets[from],
            ADD => {
                offsets[to] = offsets[to].map(|base: i32| base + immediate);
                lowest = lowest.min(offsets[to].unwrap_or(0));
            }
            CALL => {
                offsets[..6].fill(None);
                if from == usize::from(CALL_FUNCTION) {
                    calls.push(target(number * INSTRUCTION, immediate));
                }
            }
            _ if class == LOAD || class == 0 || ARITHMETIC.contains(&class) => offsets[to] = None,
            _ => {}
        }
    }
    (lowest.unsigned_abs(), calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: usize = 1;

    fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Vec<u8> {
        [&[code, registers][..], &offset.to_le_bytes(), &immediate.to_le_bytes()].concat()
    }

    #[test]
    fn a_function_takes_down_to_its_lowest_address() {
        let store = instruction(0x7b, 0x1a, -24, 0);
        let copy = instruction(0xbf, 0xa2, 0, 0);
        let lower = instruction(0x07, 0x02, 0, -40);
        let call = instruction(0x85, 0x10, 0, 7);
        let helper = instruction(0x85, 0x00, 0, 7);
        let body = [store.clone(), copy, lower, call, helper].concat();
        let (own, calls) = read(&body, |at, immediate| (HERE, at as u64 + immediate as u64));
        assert_eq!((own, calls), (40, vec![(HERE, 24 + 7)]));
        assert_eq!(read(&store, |_, _| (HERE, 0)).0, 24);
    }

    #[test]
    fn a_chain_counts_every_function_in_steps() {
        let function = |own, calls: &[u64]| Function {
            name: "f".to_owned(),
            own,
            calls: calls.iter().map(|at| (HERE, *at)).collect(),
        };
        let functions = BTreeMap::from([
            ((HERE, 0), function(33, &[8, 16])),
            ((HERE, 8), function(0, &[])),
            ((HERE, 16), function(96, &[8])),
        ]);
        let deepest = chain(&functions, (HERE, 0), 0).unwrap();
        assert_eq!(deepest, Deepest { total: 64 + 96 + 32, chain: "f 33 > f 96 > f 0".to_owned() });
        assert!(chain(&functions, (HERE, 24), 0).is_err());
        let endless = BTreeMap::from([((HERE, 0), function(0, &[0]))]);
        assert!(chain(&endless, (HERE, 0), 0).unwrap_err().to_string().contains("calls down"));
    }
}
