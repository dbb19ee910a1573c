"""The stack of the demonstration and of the life suite takes the settings of stack `ci`, and nothing that belongs to that one alone."""

from mooseng_py.demo.stack import CHECKOUT, without_keys


def test_the_keys_of_a_stack_that_was_initialised_are_left_out() -> None:
    settings = (CHECKOUT / "Pulumi.minimal.yaml").read_text()
    assert without_keys(settings) == settings
    keys = "secretsprovider: passphrase\nencryptionsalt: v1:ZxKznA=:v1:TNEp1gvp=\nencryptedkey: aaa\n"
    assert without_keys(f"{keys}{settings}") == without_keys(f"{settings}{keys}") == settings
