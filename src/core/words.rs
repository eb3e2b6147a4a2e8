//! Enums whose variants have one word each, for machines and for the configuration: the word stands beside its variant.

/// An enum that [`words`] defines.
pub(crate) trait Words: Copy + 'static {
    /// The variants, in order.
    fn all() -> &'static [Self];
    fn word(self) -> &'static str;
}

/// Defines an enum whose variants have a word each, with `ALL` and `as_str`.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$of_variant:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$attribute])*
        $visibility enum $name {
            $($(#[$of_variant])* $variant,)+
        }

        impl $name {
            /// All variants, in order.
            $visibility const ALL: [$name; [$($word),+].len()] = [$($name::$variant),+];

            $visibility fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl $crate::core::words::Words for $name {
            fn all() -> &'static [$name] {
                &$name::ALL
            }

            fn word(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

pub(crate) use words;
