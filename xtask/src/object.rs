//! What must not be in the compiled programs, whatever the compiler thought best.

mod stack;

use std::fs;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind};

use crate::toolchain::{PROFILE, TARGET};
use crate::{run, workspace};

/// LLVM 21 and later call this where they see undefined behaviour; kernels before 6.16 refuse the
/// program.
const TRAP: &str = "__bpf_trap";
/// Bytes in an instruction.
const INSTRUCTION: u64 = 8;

/// Checks the object that the last build left, and says what is in it.
///
/// # Errors
/// A call to [`TRAP`], a symbol that nothing defines, or a chain of calls too deep for the stack.
pub(crate) fn check() -> Result<()> {
    let path = workspace::ebpf_target_dir().join(TARGET).join(PROFILE).join("sg-ebpf");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let summary = inspect(&bytes).with_context(|| path.display().to_string())?;
    run::say(&format!("object: {summary}"));
    Ok(())
}

fn inspect(bytes: &[u8]) -> Result<String> {
    let object = object::File::parse(bytes).context("not an ELF object")?;
    for symbol in object.symbols() {
        let name = symbol.name().context("a symbol without a readable name")?;
        if name == TRAP {
            bail!("calls {TRAP}: the compiler saw undefined behaviour; find it with llvm-objdump -dr");
        }
        if symbol.is_undefined() && !name.is_empty() {
            bail!("`{name}` is undefined: no kernel can load this");
        }
    }
    let sections =
        object.sections().filter(|section| section.kind() == SectionKind::Text && section.size() > 0);
    let programs: Vec<_> = sections
        .map(|section| format!("{} {}", section.name().unwrap_or("?"), section.size() / INSTRUCTION))
        .collect();
    let stack::Deepest { total, chain } = stack::check(&object)?;
    Ok(format!(
        "{} bytes; instructions by section: {}; deepest stack {total}: {chain}",
        bytes.len(),
        programs.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// An object of the compiler that runs these tests, with a function that calls `name`.
    fn calling(name: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (source, compiled) = (folder.path().join("source.rs"), folder.path().join("object.o"));
        let text = format!(
            "#![no_std]\nunsafe extern \"C\" {{ fn {name}(); }}\n\
             #[unsafe(no_mangle)] pub extern \"C\" fn caller() {{ unsafe {{ {name}() }} }}\n"
        );
        fs::write(&source, text).unwrap();
        let mut rustc = Command::new("rustc");
        rustc
            .args(["--edition", "2024", "--crate-type", "lib", "--emit", "obj", "-o"])
            .arg(&compiled)
            .arg(&source);
        run::capture(&mut rustc).unwrap();
        fs::read(&compiled).unwrap()
    }

    #[test]
    fn a_trap_and_an_unresolved_symbol_are_refused_by_name() {
        let error = inspect(&calling(TRAP)).unwrap_err().to_string();
        assert!(error.contains("calls __bpf_trap"), "{error}");
        let error = inspect(&calling("not_there")).unwrap_err().to_string();
        assert!(error.contains("`not_there` is undefined"), "{error}");
    }

    #[test]
    fn what_no_kernel_could_load_is_refused() {
        let this = fs::read("/proc/self/exe").unwrap();
        let error = inspect(&this).unwrap_err().to_string();
        assert!(error.contains("is undefined"), "a program that needs libc: {error}");
        assert_eq!(inspect(b"text").unwrap_err().to_string(), "not an ELF object");
    }
}
