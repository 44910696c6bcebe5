//! The rules that can be switched off one by one, to show which fault each of them prevents.

/// Makes a struct of switches that are all on by default, and a list of their names. The switches of another such
/// struct can be put before them.
#[macro_export]
macro_rules! switches {
    ($(#[$about:meta])* pub struct $Type:ident $(with $part:ident: $Part:ty)? {
        $($(#[$meaning:meta])+ $name:ident,)+
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $Type {
            $(#[doc = concat!("As [`", stringify!($Part), "`].")] pub $part: $Part,)?
            $($(#[$meaning])+ pub $name: bool,)+
        }

        impl Default for $Type {
            fn default() -> Self {
                Self { $($part: <$Part>::default(),)? $($name: true,)+ }
            }
        }

        impl $Type {
            /// The names of all switches.
            pub fn names() -> impl Iterator<Item = &'static str> {
                let names = [$(stringify!($name)),+].into_iter();
                $(let names = <$Part>::names().chain(names);)?
                names
            }

            /// Switches one off. False if there is none of this name.
            pub fn switch_off(&mut self, name: &str) -> bool {
                match name {
                    $(stringify!($name) => self.$name = false,)+
                    _ => return false $(|| self.$part.switch_off(name))?,
                }
                true
            }
        }
    };
}

switches! {
    /// The rules of the scripts.
    pub struct Rules {
        /// A grant writes its pending event in the same step.
        outbox,
        /// A repeated request is not granted if the user has a released hold of another order.
        repeat_superseded,
        /// `settle` skips decisions below the sale's position.
        position_guard,
        /// `settle` refuses a call that begins after the sale's position, because decisions are missing.
        gap_refused,
        /// `settle` refuses a sale whose epoch is older than PostgreSQL's.
        settle_epoch,
        /// A confirmed order replaces any other hold of its buyer in Redis, and takes its units.
        adopt_on_confirm,
        /// A shrink's units are stored under the id of its event until it is decided.
        shrink_hold_by_id,
        /// An ack removes its pending event only if the sale still has the epoch in which the event was published.
        ack_clear_epoch,
        /// A release returns units only if the buyer's hold is of the same order.
        release_own_only,
        /// The hold of a released order stays, with the hash of its idempotency key.
        key_tombstones,
        /// A request with the idempotency key of an earlier order is still answered with that order when the buyer has
        /// ordered again.
        earlier_keys,
        /// While a lease on sold-out lasts, nobody gets units.
        sold_out_lease,
    }
}
