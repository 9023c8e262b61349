use super::instruction::{Binary, Instruction, Register, Shift, Unary};
use super::lanes::Lanes;
use super::program::{FUEL_MAX, Program};
use super::tape::{ORIGIN_MAX, Tape, Tapes};

/// Why a program is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// It would cost more than [`FUEL_MAX`].
    #[error("program costs more than {FUEL_MAX} units over these tapes")]
    Fuel,
    /// It reads a part of a file, and there is none.
    #[error("program reads a file that the challenge does not ask for")]
    File,
    /// The origin is not ASCII, or above [`ORIGIN_MAX`] bytes.
    #[error("origin is not ASCII of at most {ORIGIN_MAX} bytes")]
    Origin,
}

/// The reference: what a program computes over these tapes.
///
/// Every operation wraps; there is no arithmetic in it that can panic.
///
/// # Errors
/// [`EvaluateError`], decided before the first step.
///
/// Source: held to a JavaScript engine by the differential test, and to golden vectors.
pub fn evaluate(program: &Program, tapes: &Tapes<'_>) -> Result<Lanes, EvaluateError> {
    if !tapes.origin_is_legal() {
        return Err(EvaluateError::Origin);
    }
    let reads_file = |step: &Instruction| matches!(step, Instruction::Fold { tape: Tape::File, .. });
    if tapes.file.is_none() && program.instructions().iter().any(reads_file) {
        return Err(EvaluateError::File);
    }
    if program.fuel(tapes) > FUEL_MAX {
        return Err(EvaluateError::Fuel);
    }
    let mut registers = [0_i32; Register::COUNT];
    run(program.instructions(), tapes, &mut registers);
    let [a, b, c, d, e, f, g, h, ..] = registers;
    Ok(Lanes::new([a, b, c, d, e, f, g, h]))
}

/// Runs steps on a register file.
pub(super) fn run(instructions: &[Instruction], tapes: &Tapes<'_>, registers: &mut [i32; Register::COUNT]) {
    for instruction in instructions {
        step(*instruction, tapes, registers);
    }
}

fn step(instruction: Instruction, tapes: &Tapes<'_>, r: &mut [i32; Register::COUNT]) {
    let (dst, value) = match instruction {
        Instruction::Const { dst, imm } => (dst, imm),
        Instruction::Unary { op, dst, a } => (dst, unary(op, r[a.index()])),
        Instruction::Binary { op, dst, a, b } => (dst, binary(op, r[a.index()], r[b.index()])),
        Instruction::Shift { op, dst, a, by } => (dst, shift(op, r[a.index()], by.bits())),
        Instruction::MulOdd { dst, a, by } => (dst, r[a.index()].wrapping_mul(by.value())),
        Instruction::Select { dst, a, b, c } => (dst, if r[c.index()] != 0 { r[a.index()] } else { r[b.index()] }),
        Instruction::Fold { dst, tape, by, odd } => {
            let words = tapes.words(tape);
            // A tape has at most 512 words.
            let length = words.len() as i32;
            let fold = |x: i32, word: i32| (x.rotate_left(by.bits()) ^ word).wrapping_mul(odd.value());
            (dst, words.fold(r[dst.index()], fold) ^ length)
        }
    };
    r[dst.index()] = value;
}

fn unary(op: Unary, a: i32) -> i32 {
    match op {
        Unary::Neg => a.wrapping_neg(),
        Unary::Not => !a,
        Unary::Clz => a.leading_zeros() as i32,
    }
}

fn binary(op: Binary, a: i32, b: i32) -> i32 {
    match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Xor => a ^ b,
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Lt => i32::from(a < b),
        Binary::Ltu => i32::from(a.cast_unsigned() < b.cast_unsigned()),
        Binary::Eq => i32::from(a == b),
    }
}

fn shift(op: Shift, a: i32, bits: u32) -> i32 {
    let logical = (a.cast_unsigned() >> (bits & 31)).cast_signed();
    match op {
        Shift::Shl => a.wrapping_shl(bits),
        Shift::Shr => a.wrapping_shr(bits),
        Shift::Shru => logical,
        Shift::Rotl => a.rotate_left(bits),
        Shift::Xsh => a ^ logical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::{Odd, ShiftBy};
    use countersign_node_proto::ConnectionId;

    #[test]
    fn operations_wrap_as_tabulated() {
        assert_eq!(unary(Unary::Neg, i32::MIN), i32::MIN);
        assert_eq!(unary(Unary::Clz, 0), 32);
        assert_eq!(binary(Binary::Add, i32::MAX, 1), i32::MIN);
        assert_eq!(binary(Binary::Mul, i32::MAX, i32::MAX), 1);
        assert_eq!(binary(Binary::Lt, -1, 0), 1);
        assert_eq!(binary(Binary::Ltu, -1, 0), 0);
        assert_eq!(shift(Shift::Shl, -1, 31), i32::MIN);
        assert_eq!(shift(Shift::Shr, i32::MIN, 31), -1);
        assert_eq!(shift(Shift::Shru, -1, 31), 1);
        assert_eq!(shift(Shift::Xsh, -1, 31), -2);
    }

    #[test]
    fn fuel_is_decided_before_the_first_step() {
        let origin = "a".repeat(ORIGIN_MAX);
        let id = ConnectionId::from_bytes([1; 16]);
        let tapes = Tapes {
            server_nonce: &[2; 32],
            client_nonce: None,
            connection: &id,
            thumbprint: None,
            origin: &origin,
            file: None,
        };
        let dst = Register::new(0).unwrap();
        let fold = Instruction::Fold { dst, tape: Tape::Origin, by: ShiftBy::new(7).unwrap(), odd: Odd::new(3).unwrap() };
        let fits = Program::new(vec![fold; 7]).unwrap();
        assert_eq!(fits.fuel(&tapes), 7 * 513);
        assert!(evaluate(&fits, &tapes).is_ok());
        let dear = Program::new(vec![fold; 8]).unwrap();
        assert_eq!(evaluate(&dear, &tapes), Err(EvaluateError::Fuel));
        let longer = "a".repeat(ORIGIN_MAX + 1);
        assert_eq!(evaluate(&fits, &Tapes { origin: &longer, ..tapes }), Err(EvaluateError::Origin));
        assert_eq!(evaluate(&fits, &Tapes { origin: "https://bücher.example", ..tapes }), Err(EvaluateError::Origin));
    }
}
