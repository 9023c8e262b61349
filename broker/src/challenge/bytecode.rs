use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::generate::below;
use super::instruction::Register;
use super::program::{INSTRUCTION_BYTES, OPCODES, OPERATIONS_MAX, Program, ProgramError};

/// The first byte of the form.
const VERSION: u8 = 1;
/// Version, opcodes, registers.
const HEADER_BYTES: usize = 1 + OPCODES.len() + Register::COUNT;
/// Which of the generator's streams disguises are drawn from; programs are drawn from stream 0 of the same seed.
const STREAM: u64 = 1;

/// What the opcodes and registers of one challenge are called on the wire.
///
/// It is sent with the program, so it hides nothing from anyone who reads the interpreter. It makes two programs differ in
/// every byte, so that what recognizes a program must first run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disguise {
    /// For each of the opcodes, ascending.
    opcodes: [u8; OPCODES.len()],
    /// For each register.
    registers: [u8; Register::COUNT],
}

/// Why bytes are no program of the form `vm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BytecodeError {
    /// Shorter than its header.
    #[error("program is shorter than its header")]
    Short,
    /// Of another version.
    #[error("unknown version {0} of the form")]
    Version(u8),
    /// Two opcodes of one name.
    #[error("two operations have the opcode {0:#04x}")]
    Opcodes(u8),
    /// Not each register exactly once.
    #[error("registers are no permutation")]
    Registers,
    /// What follows the header is no program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Disguise {
    /// The disguise of a seed, which is the program's own.
    ///
    /// Source: frozen by the golden vectors in `vectors/`.
    #[must_use]
    pub fn draw(seed: &[u8; 32]) -> Self {
        let mut stream = ChaCha20Rng::from_seed(*seed);
        stream.set_stream(STREAM);
        let mut codes: [u8; 256] = std::array::from_fn(|code| code as u8);
        let mut opcodes = [0; OPCODES.len()];
        for (place, opcode) in opcodes.iter_mut().enumerate() {
            codes.swap(place, place + below(&mut stream, 256 - place as u32) as usize);
            *opcode = codes[place];
        }
        let mut registers: [u8; Register::COUNT] = std::array::from_fn(|register| register as u8);
        for place in (1..registers.len()).rev() {
            registers.swap(place, below(&mut stream, place as u32 + 1) as usize);
        }
        Self { opcodes, registers }
    }

    /// The form `vm` of a program.
    ///
    /// Byte form: version (1), what each of the 21 opcodes is called, what each of the 32 registers is called, then the
    /// instructions as in [`Program`] under these names. 54 bytes and 8 for each operation.
    #[must_use]
    pub fn encode(&self, program: &Program) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + program.instructions().len() * INSTRUCTION_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.opcodes);
        bytes.extend_from_slice(&self.registers);
        let name = |register: Register| Register::wrapped(u32::from(self.registers[register.index()]));
        for instruction in program.instructions() {
            let mut step = instruction.renamed(name).encode();
            // Every instruction has one of these opcodes.
            if let Ok(place) = OPCODES.binary_search(&step[0]) {
                step[0] = self.opcodes[place];
            }
            bytes.extend_from_slice(&step);
        }
        bytes
    }

    /// Reads the form `vm`; what it accepts encodes to the same bytes.
    ///
    /// # Errors
    /// [`BytecodeError`]: the sender's fault. Nothing is executed.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Program), BytecodeError> {
        let (version, rest) = bytes.split_first().ok_or(BytecodeError::Short)?;
        if *version != VERSION {
            return Err(BytecodeError::Version(*version));
        }
        let (opcodes, rest) = rest.split_first_chunk().ok_or(BytecodeError::Short)?;
        let (registers, steps) = rest.split_first_chunk().ok_or(BytecodeError::Short)?;
        if steps.len() > OPERATIONS_MAX * INSTRUCTION_BYTES {
            return Err(ProgramError::TooLong.into());
        }
        let disguise = Self { opcodes: *opcodes, registers: *registers };
        let originals = disguise.originals()?;
        let mut plain = steps.to_vec();
        for step in plain.chunks_mut(INSTRUCTION_BYTES) {
            let named = step[0];
            let place = disguise.opcodes.iter().position(|opcode| *opcode == named);
            step[0] = OPCODES[place.ok_or(ProgramError::Opcode(named))?];
        }
        let renamed = Program::decode(&plain)?;
        let restore = |register: Register| originals[register.index()];
        let restored = renamed.instructions().iter().map(|step| step.renamed(restore)).collect();
        Ok((disguise, Program::new(restored)?))
    }

    /// For each name of a register, the register; checks that opcodes and registers have names of their own.
    fn originals(&self) -> Result<[Register; Register::COUNT], BytecodeError> {
        let doubled = |place: &usize| self.opcodes[..*place].contains(&self.opcodes[*place]);
        if let Some(place) = (1..self.opcodes.len()).find(doubled) {
            return Err(BytecodeError::Opcodes(self.opcodes[place]));
        }
        let mut originals = [None; Register::COUNT];
        for (register, name) in (0..).zip(self.registers) {
            *originals.get_mut(usize::from(name)).ok_or(BytecodeError::Registers)? = Register::new(register);
        }
        let mut all = [Register::wrapped(0); Register::COUNT];
        for (slot, original) in all.iter_mut().zip(originals) {
            *slot = original.ok_or(BytecodeError::Registers)?;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::challenge::{Constants, Shape, generate};

    fn program(seed: &[u8; 32], operations: usize) -> Program {
        generate(seed, Shape::new(operations, Constants::Edges).unwrap()).unwrap()
    }

    #[test]
    fn opcodes_are_all_that_programs_have_in_ascending_order() {
        assert!(OPCODES.is_sorted_by(|a, b| a < b));
        let legal = |code: u8| !matches!(Program::decode(&[code, 0, 0, 1, 0, 0, 0, 1]), Err(ProgramError::Opcode(_)));
        let all: Vec<u8> = (0..=255).filter(|code| legal(*code)).collect();
        assert_eq!(all, OPCODES);
    }

    #[test]
    fn headers_are_judged_before_what_follows() {
        let seed = [3; 32];
        let bytes = Disguise::draw(&seed).encode(&program(&seed, 32));
        assert_eq!(bytes.len(), 54 + 32 * 8);
        let with = |place: usize, byte: u8| {
            let mut changed = bytes.clone();
            changed[place] = byte;
            Disguise::decode(&changed).map(|_| ())
        };
        assert_eq!(Disguise::decode(&[]), Err(BytecodeError::Short));
        assert_eq!(Disguise::decode(&bytes[..53]), Err(BytecodeError::Short));
        assert_eq!(Disguise::decode(&bytes[..57]).unwrap_err(), ProgramError::Ragged.into());
        assert_eq!(with(0, 2), Err(BytecodeError::Version(2)));
        assert_eq!(with(2, bytes[1]), Err(BytecodeError::Opcodes(bytes[1])));
        assert_eq!(with(22, bytes[23]), Err(BytecodeError::Registers));
        assert_eq!(with(22, 32), Err(BytecodeError::Registers));
        let long = [&bytes[..54], &bytes[54..62].repeat(OPERATIONS_MAX + 1)].concat();
        assert_eq!(Disguise::decode(&long), Err(ProgramError::TooLong.into()));
    }

    proptest! {
        #[test]
        fn disguised_programs_round_trip(seed: [u8; 32], operations in 32_usize..200) {
            let (disguise, program) = (Disguise::draw(&seed), program(&seed, operations));
            prop_assert_eq!(Disguise::decode(&disguise.encode(&program)), Ok((disguise, program)));
        }

        #[test]
        fn what_is_accepted_encodes_to_the_same_bytes(seed: [u8; 32], at in 0_usize..310, byte: u8) {
            let mut bytes = Disguise::draw(&seed).encode(&program(&seed, 32));
            bytes[at] = byte;
            if let Ok((disguise, program)) = Disguise::decode(&bytes) {
                prop_assert_eq!(disguise.encode(&program), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Disguise::decode(&bytes);
        }
    }
}
