use super::instruction::{Binary, Instruction, Odd, Register, Shift, ShiftBy, Unary};
use super::tape::{Tape, Tapes};

/// Operations of the longest program.
pub const OPERATIONS_MAX: usize = 1_024;
/// What one run may cost: 1 for each operation and 1 for each word of tape that it folds.
pub const FUEL_MAX: usize = 4_096;
/// Bytes of one instruction.
pub(super) const INSTRUCTION_BYTES: usize = 8;

const CONST: u8 = 0x01;
const MUL_ODD: u8 = 0x40;
const SELECT: u8 = 0x50;
const FOLD: u8 = 0x60;

/// Every opcode, ascending: the order in which a disguise tells what each has become.
pub(super) const OPCODES: [u8; 21] = [
    CONST, 0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x30, 0x31, 0x32, 0x33, 0x34, MUL_ODD,
    SELECT, FOLD,
];

/// A straight-line program; the lanes are registers 0 to 7 at its end.
///
/// Byte form: 8 bytes for each instruction: opcode, dst, a, b, immediate (32 bits, big-endian). A shift has its count in
/// the immediate, a selection its third register; a fold has its tape in a, its rotation in b and its multiplier in the
/// immediate. Bytes without a meaning are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

/// Why bytes or instructions are no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Not a multiple of 8 bytes.
    #[error("program is not a whole number of instructions")]
    Ragged,
    /// More than [`OPERATIONS_MAX`].
    #[error("program has more than {OPERATIONS_MAX} operations")]
    TooLong,
    /// An opcode that does not exist.
    #[error("unknown opcode {0:#04x}")]
    Opcode(u8),
    /// A register above 31.
    #[error("no register {0}")]
    Register(u32),
    /// A tape that does not exist.
    #[error("unknown tape {0}")]
    Tape(u8),
    /// A shift count outside 1 to 31.
    #[error("shift by {0} bits")]
    Shift(i32),
    /// A multiplier that would lose information.
    #[error("even multiplier {0}")]
    EvenMultiplier(i32),
    /// A byte without a meaning that is not zero.
    #[error("unused byte is not zero")]
    Unused,
}

impl Program {
    /// A program of these instructions.
    ///
    /// # Errors
    /// [`ProgramError::TooLong`].
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, ProgramError> {
        if instructions.len() > OPERATIONS_MAX {
            return Err(ProgramError::TooLong);
        }
        Ok(Self { instructions })
    }

    /// The steps, in order.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// What a run over these tapes costs, known before it starts.
    #[must_use]
    pub fn fuel(&self, tapes: &Tapes<'_>) -> usize {
        let cost = |instruction: &Instruction| match instruction {
            Instruction::Fold { tape, .. } => 1 + tapes.len(*tape),
            _ => 1,
        };
        self.instructions.iter().map(cost).sum()
    }

    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.instructions.iter().flat_map(|instruction| encode(*instruction)).collect()
    }

    /// Reads the byte form; what it accepts encodes to the same bytes.
    ///
    /// # Errors
    /// [`ProgramError`]: the sender's fault, and never to be retried. Nothing is executed.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProgramError> {
        if bytes.len() > OPERATIONS_MAX * INSTRUCTION_BYTES {
            return Err(ProgramError::TooLong);
        }
        let (chunks, rest) = bytes.as_chunks::<INSTRUCTION_BYTES>();
        if !rest.is_empty() {
            return Err(ProgramError::Ragged);
        }
        let instructions = chunks.iter().map(decode).collect::<Result<_, _>>()?;
        Self::new(instructions)
    }
}

impl Instruction {
    /// Its byte form.
    pub(super) fn encode(self) -> [u8; INSTRUCTION_BYTES] {
        encode(self)
    }
}

/// One instruction as bytes.
fn encode(instruction: Instruction) -> [u8; INSTRUCTION_BYTES] {
    let raw = |op: u8, dst: Register, a: u8, b: u8, imm: i32| {
        let [i0, i1, i2, i3] = imm.to_be_bytes();
        [op, dst.number(), a, b, i0, i1, i2, i3]
    };
    match instruction {
        Instruction::Const { dst, imm } => raw(CONST, dst, 0, 0, imm),
        Instruction::Unary { op, dst, a } => raw(op.code(), dst, a.number(), 0, 0),
        Instruction::Binary { op, dst, a, b } => raw(op.code(), dst, a.number(), b.number(), 0),
        Instruction::Shift { op, dst, a, by } => raw(op.code(), dst, a.number(), 0, by.bits().cast_signed()),
        Instruction::MulOdd { dst, a, by } => raw(MUL_ODD, dst, a.number(), 0, by.value()),
        Instruction::Select { dst, a, b, c } => raw(SELECT, dst, a.number(), b.number(), i32::from(c.number())),
        Instruction::Fold { dst, tape, by, odd } => raw(FOLD, dst, tape.code(), by.bits() as u8, odd.value()),
    }
}

/// One instruction from bytes.
fn decode(bytes: &[u8; INSTRUCTION_BYTES]) -> Result<Instruction, ProgramError> {
    let [op, dst, a, b, i0, i1, i2, i3] = *bytes;
    let imm = i32::from_be_bytes([i0, i1, i2, i3]);
    let dst = register(dst)?;
    if let Some(op) = Unary::from_code(op) {
        unused(b == 0 && imm == 0)?;
        return Ok(Instruction::Unary { op, dst, a: register(a)? });
    }
    if let Some(op) = Binary::from_code(op) {
        unused(imm == 0)?;
        return Ok(Instruction::Binary { op, dst, a: register(a)?, b: register(b)? });
    }
    if let Some(op) = Shift::from_code(op) {
        unused(b == 0)?;
        return Ok(Instruction::Shift { op, dst, a: register(a)?, by: shift(imm)? });
    }
    match op {
        CONST => unused(a == 0 && b == 0).map(|()| Instruction::Const { dst, imm }),
        MUL_ODD => {
            unused(b == 0)?;
            Ok(Instruction::MulOdd { dst, a: register(a)?, by: odd(imm)? })
        }
        SELECT => Ok(Instruction::Select { dst, a: register(a)?, b: register(b)?, c: wide_register(imm)? }),
        FOLD => {
            let tape = Tape::from_code(a).ok_or(ProgramError::Tape(a))?;
            Ok(Instruction::Fold { dst, tape, by: shift(i32::from(b))?, odd: odd(imm)? })
        }
        unknown => Err(ProgramError::Opcode(unknown)),
    }
}

fn register(number: u8) -> Result<Register, ProgramError> {
    Register::new(number).ok_or(ProgramError::Register(u32::from(number)))
}

fn wide_register(imm: i32) -> Result<Register, ProgramError> {
    u8::try_from(imm).ok().and_then(Register::new).ok_or(ProgramError::Register(imm.cast_unsigned()))
}

fn shift(bits: i32) -> Result<ShiftBy, ProgramError> {
    ShiftBy::new(bits).ok_or(ProgramError::Shift(bits))
}

fn odd(value: i32) -> Result<Odd, ProgramError> {
    Odd::new(value).ok_or(ProgramError::EvenMultiplier(value))
}

fn unused(zero: bool) -> Result<(), ProgramError> {
    if zero { Ok(()) } else { Err(ProgramError::Unused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: [u8; 8]) -> Result<Instruction, ProgramError> {
        Program::decode(&bytes).map(|program| program.instructions()[0])
    }

    #[test]
    fn illegal_instructions_are_refused_by_name() {
        assert_eq!(decoded([0x00, 0, 0, 0, 0, 0, 0, 0]), Err(ProgramError::Opcode(0)));
        assert_eq!(decoded([0xff, 0, 0, 0, 0, 0, 0, 0]), Err(ProgramError::Opcode(0xff)));
        assert_eq!(decoded([CONST, 32, 0, 0, 0, 0, 0, 0]), Err(ProgramError::Register(32)));
        assert_eq!(decoded([0x20, 0, 32, 0, 0, 0, 0, 0]), Err(ProgramError::Register(32)));
        assert_eq!(decoded([0x20, 0, 0, 255, 0, 0, 0, 0]), Err(ProgramError::Register(255)));
        assert_eq!(decoded([SELECT, 0, 0, 0, 0, 0, 0, 32]), Err(ProgramError::Register(32)));
        assert_eq!(decoded([SELECT, 0, 0, 0, 1, 0, 0, 1]), Err(ProgramError::Register(0x0100_0001)));
        assert_eq!(decoded([0x30, 0, 0, 0, 0, 0, 0, 0]), Err(ProgramError::Shift(0)));
        assert_eq!(decoded([0x33, 0, 0, 0, 0, 0, 0, 32]), Err(ProgramError::Shift(32)));
        assert_eq!(decoded([0x34, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Err(ProgramError::Shift(-1)));
        assert_eq!(decoded([MUL_ODD, 0, 0, 0, 0, 0, 0, 2]), Err(ProgramError::EvenMultiplier(2)));
        assert_eq!(decoded([FOLD, 0, 6, 1, 0, 0, 0, 1]), Err(ProgramError::Tape(6)));
        assert_eq!(decoded([FOLD, 0, 0, 0, 0, 0, 0, 1]), Err(ProgramError::Shift(0)));
        assert_eq!(decoded([FOLD, 0, 0, 32, 0, 0, 0, 1]), Err(ProgramError::Shift(32)));
        assert_eq!(decoded([FOLD, 0, 0, 1, 0, 0, 0, 0]), Err(ProgramError::EvenMultiplier(0)));
        assert_eq!(decoded([0x20, 0, 0, 0, 0, 0, 0, 1]), Err(ProgramError::Unused));
        assert_eq!(decoded([CONST, 0, 0, 1, 0, 0, 0, 1]), Err(ProgramError::Unused));
    }

    #[test]
    fn length_is_bounded_and_whole() {
        let step = [CONST, 0, 0, 0, 0, 0, 0, 0];
        assert!(Program::decode(&step.repeat(OPERATIONS_MAX)).is_ok());
        assert_eq!(Program::decode(&step.repeat(OPERATIONS_MAX + 1)), Err(ProgramError::TooLong));
        assert_eq!(Program::decode(&step[..7]), Err(ProgramError::Ragged));
    }

    proptest! {
        #[test]
        fn decoding_never_panics_and_what_it_accepts_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(program) = Program::decode(&bytes) {
                prop_assert_eq!(program.encode(), bytes);
            }
        }

        // Bytes near legal ones: almost every byte is in range, so that most decode.
        #[test]
        fn nearly_legal_bytes_decode_or_fail_cleanly(
            steps in prop::collection::vec((0_usize..21, 0_u8..33, 0_u8..33, 0_u8..33, 0_i32..33), 1..20)
        ) {
            const CODES: [u8; 21] = [
                0x01, 0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x30, 0x31, 0x32, 0x33,
                0x34, 0x40, 0x50, 0x60,
            ];
            for (code, dst, a, b, imm) in steps {
                let mut bytes = vec![CODES[code], dst, a, b];
                bytes.extend(imm.to_be_bytes());
                if let Ok(program) = Program::decode(&bytes) {
                    prop_assert_eq!(program.encode(), bytes);
                }
            }
        }
    }
}
