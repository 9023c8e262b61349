/// One of the 32 registers of a program: signed 32-bit, zero at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(u8);

/// How far a shift goes: 1 to 31, so that JavaScript's masking of shift counts never shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShiftBy(u8);

/// An odd multiplier: multiplying by it loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Odd(i32);

impl Register {
    /// How many there are.
    pub const COUNT: usize = 32;

    /// The register of this number, if there is one.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 32 { Some(Self(number)) } else { None }
    }

    /// A register by the low five bits of a number.
    pub(super) const fn wrapped(number: u32) -> Self {
        Self((number & 31) as u8)
    }

    /// Its number, 0 to 31.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its place in a register file.
    pub(super) const fn index(self) -> usize {
        (self.0 & 31) as usize
    }
}

impl ShiftBy {
    /// The shift of this many bits, if it is from 1 to 31.
    #[must_use]
    pub const fn new(bits: i32) -> Option<Self> {
        if bits >= 1 && bits <= 31 { Some(Self(bits as u8)) } else { None }
    }

    /// A shift by the remainder of a number: every number gives one.
    pub(super) const fn wrapped(number: u32) -> Self {
        Self((number % 31 + 1) as u8)
    }

    /// In bits, 1 to 31.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

impl Odd {
    /// This multiplier, if it is odd.
    #[must_use]
    pub const fn new(value: i32) -> Option<Self> {
        if value & 1 == 1 { Some(Self(value)) } else { None }
    }

    /// The number with its lowest bit set.
    pub(super) const fn of(value: i32) -> Self {
        Self(value | 1)
    }

    /// The multiplier.
    #[must_use]
    pub const fn value(self) -> i32 {
        self.0
    }
}

/// A closed set of operations with a byte for each.
macro_rules! operations {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every one, in a frozen order: the generator draws by position.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its opcode.
            pub(super) const fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }

            /// The operation of an opcode.
            pub(super) const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

operations! {
    /// Of one register.
    Unary {
        /// `(-a)|0`
        Neg = 0x10,
        /// `~a`
        Not = 0x11,
        /// `Math.clz32(a)`
        Clz = 0x12,
    }
}

operations! {
    /// Of two registers.
    Binary {
        /// `(a+b)|0`
        Add = 0x20,
        /// `(a-b)|0`
        Sub = 0x21,
        /// `Math.imul(a,b)`
        Mul = 0x22,
        /// `a^b`
        Xor = 0x23,
        /// `a&b`
        And = 0x24,
        /// `a|b`
        Or = 0x25,
        /// `a<b?1:0`
        Lt = 0x26,
        /// `(a>>>0)<(b>>>0)?1:0`
        Ltu = 0x27,
        /// `a===b?1:0`
        Eq = 0x28,
    }
}

operations! {
    /// Of one register and an immediate count.
    Shift {
        /// `a<<n`
        Shl = 0x30,
        /// `a>>n`
        Shr = 0x31,
        /// `(a>>>n)|0`
        Shru = 0x32,
        /// `(a<<n|a>>>(32-n))|0`
        Rotl = 0x33,
        /// `a^(a>>>n)`
        Xsh = 0x34,
    }
}

/// One step of a program. There are no jumps, no memory and no calls to the host.
///
/// The types admit legal instructions only, so that neither the evaluator nor the printer has a case that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// `dst = imm`
    Const {
        /// Written.
        dst: Register,
        /// The value.
        imm: i32,
    },
    /// `dst = op a`
    Unary {
        /// What is done.
        op: Unary,
        /// Written.
        dst: Register,
        /// Read.
        a: Register,
    },
    /// `dst = a op b`
    Binary {
        /// What is done.
        op: Binary,
        /// Written.
        dst: Register,
        /// Read.
        a: Register,
        /// Read.
        b: Register,
    },
    /// `dst = a op by`
    Shift {
        /// What is done.
        op: Shift,
        /// Written.
        dst: Register,
        /// Read.
        a: Register,
        /// The count.
        by: ShiftBy,
    },
    /// `dst = Math.imul(a,by)`
    MulOdd {
        /// Written.
        dst: Register,
        /// Read.
        a: Register,
        /// The multiplier.
        by: Odd,
    },
    /// `dst = c!==0?a:b`
    Select {
        /// Written.
        dst: Register,
        /// Taken where `c` is not zero.
        a: Register,
        /// Taken where it is.
        b: Register,
        /// Decides.
        c: Register,
    },
    /// For each word w of the tape `dst = Math.imul(rotl(dst,by)^w,odd)`, then `dst = dst^length`.
    Fold {
        /// Accumulates.
        dst: Register,
        /// Read to its end.
        tape: super::tape::Tape,
        /// The rotation.
        by: ShiftBy,
        /// The multiplier.
        odd: Odd,
    },
}

impl Instruction {
    /// The same step on other registers.
    #[must_use]
    pub(super) fn renamed(self, name: impl Fn(Register) -> Register) -> Self {
        match self {
            Self::Const { dst, imm } => Self::Const { dst: name(dst), imm },
            Self::Unary { op, dst, a } => Self::Unary { op, dst: name(dst), a: name(a) },
            Self::Binary { op, dst, a, b } => Self::Binary { op, dst: name(dst), a: name(a), b: name(b) },
            Self::Shift { op, dst, a, by } => Self::Shift { op, dst: name(dst), a: name(a), by },
            Self::MulOdd { dst, a, by } => Self::MulOdd { dst: name(dst), a: name(a), by },
            Self::Select { dst, a, b, c } => Self::Select { dst: name(dst), a: name(a), b: name(b), c: name(c) },
            Self::Fold { dst, tape, by, odd } => Self::Fold { dst: name(dst), tape, by, odd },
        }
    }
}
