package example;

/** A message that this program does not know, and why. Reading it again would end the same. */
final class Unreadable extends Exception {
    Unreadable(String why) {
        super(why);
    }
}
