use std::fmt::{self, Write as _};

use super::instruction::{Binary, Instruction, Register, Shift, Unary};
use super::lanes::Lanes;
use super::page::PageOrigin;
use super::program::Program;
use super::tape::{ORIGIN_MAX, Tape, Tapes};

/// Prints a program as a JavaScript function expression that computes the same lanes.
///
/// `eval('(' + text + ')')` gives a function; called, with or without an argument, it returns at once
/// `{origin, domain, lanes, key}`: the page's origin and host as `location` shows them, the eight lanes as integers, and
/// the lanes again as 64 hexadecimal digits. It throws where the page's origin is not ASCII of at most [`ORIGIN_MAX`]
/// characters. For a page without an origin to compare (see [`PageOrigin`]) the tape is printed and `domain` is empty.
///
/// The syntax is that of ECMAScript 5, strict; `Math.imul` and `Math.clz32` are all that it needs of a later library.
/// Nothing but integers and text of this file goes into it, so nothing in it can be injected. One statement for each
/// operation: deep expressions overflow parsers. 128 operations take about 3 kB.
#[must_use]
pub fn print(program: &Program, tapes: &Tapes<'_>, page: &PageOrigin) -> String {
    let mut out = String::with_capacity(1_536 + 24 * program.instructions().len());
    // Writing to a string cannot fail.
    let _ = write_function(&mut out, program, tapes, page);
    out
}

fn write_function(out: &mut String, program: &Program, tapes: &Tapes<'_>, page: &PageOrigin) -> fmt::Result {
    out.push_str("function(){\"use strict\";var ");
    let domain = match page {
        PageOrigin::Listed { .. } => {
            out.push_str("o=String(location.origin)");
            "location.hostname"
        }
        PageOrigin::Missing | PageOrigin::Null => {
            write!(out, "o=\"{}\"", page.tape())?;
            "\"\""
        }
    };
    out.push_str(",t4=[],i,c,l,k=\"\"");
    for tape in [Tape::ServerNonce, Tape::ClientNonce, Tape::Connection, Tape::Thumbprint] {
        write_tape(out, tape, tapes)?;
    }
    // No page is asked for files in this form: what it would have to read stands here. For comparisons of the two forms.
    if tapes.file.is_some() {
        write_tape(out, Tape::File, tapes)?;
    }
    for register in 0..Register::COUNT {
        write!(out, ",v{register}=0")?;
    }
    write!(
        out,
        ";if(o.length>{ORIGIN_MAX})throw Error(\"origin\");\
         for(i=0;i<o.length;i++){{c=o.charCodeAt(i);if(c>127)throw Error(\"origin\");t4.push(c)}}\
         function f(x,t,n,m){{for(var j=0;j<t.length;j++)x=Math.imul((x<<n|x>>>(32-n))^t[j],m);return x^t.length}}"
    )?;
    for instruction in program.instructions() {
        write_statement(out, *instruction)?;
    }
    out.push_str("l=[v0");
    for lane in 1..Lanes::COUNT {
        write!(out, ",v{lane}")?;
    }
    write!(
        out,
        "];for(i=0;i<{};i++)for(c=28;c>=0;c-=4)k+=\"0123456789abcdef\".charAt(l[i]>>>c&15);\
         return{{origin:o,domain:{domain},lanes:l,key:k}}}}",
        Lanes::COUNT
    )
}

fn write_tape(out: &mut String, tape: Tape, tapes: &Tapes<'_>) -> fmt::Result {
    write!(out, ",t{}=[", tape.code())?;
    for (place, word) in tapes.words(tape).enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(out, "{comma}{word}")?;
    }
    out.push(']');
    Ok(())
}

fn write_statement(out: &mut String, instruction: Instruction) -> fmt::Result {
    match instruction {
        Instruction::Const { dst, imm } => write!(out, "{}={};", Name(dst), Number(imm)),
        Instruction::Unary { op, dst, a } => write_unary(out, op, Name(dst), Name(a)),
        Instruction::Binary { op, dst, a, b } => write_binary(out, op, Name(dst), Name(a), Name(b)),
        Instruction::Shift { op, dst, a, by } => write_shift(out, op, Name(dst), Name(a), by.bits()),
        Instruction::MulOdd { dst, a, by } => {
            write!(out, "{}=Math.imul({},{});", Name(dst), Name(a), Number(by.value()))
        }
        Instruction::Select { dst, a, b, c } => {
            write!(out, "{}={}!==0?{}:{};", Name(dst), Name(c), Name(a), Name(b))
        }
        Instruction::Fold { dst, tape, by, odd } => {
            let (tape, by) = (tape.code(), by.bits());
            write!(out, "{0}=f({0},t{tape},{by},{1});", Name(dst), Number(odd.value()))
        }
    }
}

fn write_unary(out: &mut String, op: Unary, dst: Name, a: Name) -> fmt::Result {
    match op {
        Unary::Neg => write!(out, "{dst}=(-{a})|0;"),
        Unary::Not => write!(out, "{dst}=~{a};"),
        Unary::Clz => write!(out, "{dst}=Math.clz32({a});"),
    }
}

fn write_binary(out: &mut String, op: Binary, dst: Name, a: Name, b: Name) -> fmt::Result {
    match op {
        Binary::Add => write!(out, "{dst}=({a}+{b})|0;"),
        Binary::Sub => write!(out, "{dst}=({a}-{b})|0;"),
        Binary::Mul => write!(out, "{dst}=Math.imul({a},{b});"),
        Binary::Xor => write!(out, "{dst}={a}^{b};"),
        Binary::And => write!(out, "{dst}={a}&{b};"),
        Binary::Or => write!(out, "{dst}={a}|{b};"),
        Binary::Lt => write!(out, "{dst}={a}<{b}?1:0;"),
        Binary::Ltu => write!(out, "{dst}=({a}>>>0)<({b}>>>0)?1:0;"),
        Binary::Eq => write!(out, "{dst}={a}==={b}?1:0;"),
    }
}

fn write_shift(out: &mut String, op: Shift, dst: Name, a: Name, n: u32) -> fmt::Result {
    match op {
        Shift::Shl => write!(out, "{dst}={a}<<{n};"),
        Shift::Shr => write!(out, "{dst}={a}>>{n};"),
        // Unsigned in JavaScript until it is made an int32 again.
        Shift::Shru => write!(out, "{dst}=({a}>>>{n})|0;"),
        Shift::Rotl => write!(out, "{dst}=({a}<<{n}|{a}>>>{})|0;", 32 - n),
        Shift::Xsh => write!(out, "{dst}={a}^({a}>>>{n});"),
    }
}

/// A register's name: prefixed, so that it can never be a keyword.
struct Name(Register);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0.number())
    }
}

/// A literal; negatives stand in parentheses, since `a--1` is no expression.
struct Number(i32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 { write!(f, "({})", self.0) } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::{Constants, Shape, generate};
    use countersign_node_proto::ConnectionId;

    fn printed(operations: usize, header: Option<&str>) -> String {
        let program = generate(&[9; 32], Shape::new(operations, Constants::Uniform).unwrap()).unwrap();
        let id = ConnectionId::from_bytes([0xfe; 16]);
        let page = PageOrigin::of_handshake(header).unwrap();
        let tapes = Tapes {
            server_nonce: &[0xff; 32],
            client_nonce: Some(&[0x80; 32]),
            connection: &id,
            thumbprint: None,
            origin: page.tape(),
            file: None,
        };
        print(&program, &tapes, &page)
    }

    #[test]
    fn text_is_a_function_expression_of_modest_size() {
        let text = printed(128, Some("https://app.example"));
        assert!(text.starts_with("function(") && text.ends_with('}'));
        assert!(text.is_ascii() && !text.contains('\n'));
        assert!((2_000..4_096).contains(&text.len()), "{}", text.len());
    }

    #[test]
    fn a_listed_origin_is_read_from_the_page_and_never_printed() {
        let text = printed(32, Some("https://app.example"));
        assert!(text.contains("location.origin") && !text.contains("app.example"));
    }

    #[test]
    fn without_a_listed_origin_nothing_is_read_from_the_page() {
        assert!(!printed(32, None).contains("location"));
        let null = printed(32, Some("null"));
        assert!(!null.contains("location") && null.contains("o=\"null\""));
    }

    #[test]
    fn negatives_stand_in_parentheses() {
        assert_eq!(Number(i32::MIN).to_string(), "(-2147483648)");
        assert_eq!(Number(0).to_string(), "0");
    }
}
