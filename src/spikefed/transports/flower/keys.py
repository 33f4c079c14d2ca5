"""Certificates and keys of a fleet: one CA, the server's certificate, one key for every client."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spikefed.errors import DeployError

DAYS = 825
"""Validity of what is made; longer is refused by some systems."""


def make_keys(folder: Path, hosts: Sequence[str], clients: int) -> list[Path]:
    """Make what is not there yet of a fleet's keys; nothing that exists is touched.

    A client whose ``.pub`` is there gets no new key: its private key may be elsewhere. The CA's key is needed only for
    a new certificate.

    Args:
        folder: gets ``ca.key``, ``ca.crt``, ``server.key``, ``server.crt`` and ``clients/client-N.key`` and ``.pub``.
        hosts: names and addresses that clients reach the server under; loopback is always among them.
        clients: number of client keys.

    Returns:
        the files made.

    Raises:
        DeployError: the folder cannot be written, lacks the CA's key for a new certificate, or holds a server
            certificate that does not name one of the hosts.
    """
    made: list[Path] = []
    try:
        (folder / "clients").mkdir(parents=True, exist_ok=True)
        if (folder / "ca.crt").is_file() and (folder / "server.crt").is_file():
            _require_named(folder / "server.crt", hosts)
        else:
            ca_key, ca = _authority(folder, made)
            _server(folder, hosts, ca_key, ca, made)
        for client in range(clients):
            _client(folder / "clients", client, made)
    except OSError as error:
        raise DeployError(f"keys cannot be written into {folder} ({error.strerror}); choose another folder") from error
    return made


def public_keys(folder: Path) -> dict[int, bytes]:
    """Public keys (PEM) of a fleet by client number.

    Raises:
        DeployError: none there, or one cannot be read.
    """
    keys = {}
    for path in sorted((folder / "clients").glob("client-*.pub")):
        try:
            number = int(path.stem.removeprefix("client-"))
            key = serialization.load_ssh_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DeployError(f"{path} is no public key of a client ({error}); make it with 'spikefed keys'") from error
        keys[number] = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )  # fmt: skip
    if not keys:
        raise DeployError(f"{folder} holds no clients/client-N.pub; make keys with 'spikefed keys {folder}'")
    return keys


def require(*paths: Path) -> None:
    """Raise DeployError unless every file is there and can be read."""
    for path in paths:
        if not os.access(path, os.R_OK) or not path.is_file():
            raise DeployError(f"{path} is not there or cannot be read; make keys with 'spikefed keys'")


def check_private(path: Path) -> None:
    """Raise DeployError unless a file holds a client's private key, as `make_keys` or ``ssh-keygen`` writes it."""
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise DeployError(
            f"{path} is no private key of a client ({error}); give the client-N.key that 'spikefed keys' made"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeployError(f"{path} is no ECDSA key; make one with 'spikefed keys' or 'ssh-keygen -t ecdsa -b 384'")


def check_server(address: str, ca: Path, timeout_s: float = 5.0) -> bool:
    """Whether a server answers at ``host:port`` with a certificate that this CA signed.

    Returns:
        False when nobody answers (yet).

    Raises:
        DeployError: it answers with another certificate, or the address or the CA file cannot be used.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise DeployError(f"--server '{address}' is not HOST:PORT; write for example --server fleet.example.org:8443")
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise DeployError(f"{ca} is no CA certificate ({error}); take ca.crt from the server's key folder") from error
    try:
        name = host.strip("[]")
        with (
            socket.create_connection((name, int(port)), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=name),
        ):
            return True
    except ssl.SSLCertVerificationError as error:
        raise DeployError(
            f"the server at {address} shows a certificate that {ca} does not vouch for ({error.verify_message}); "
            "take ca.crt from that server's key folder, or name this host with 'spikefed keys --host'"
        ) from error
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:  # no name server answers: the network is away, as it may be at any time
            return False
        raise DeployError(f"--server '{address}': no such host ({error.strerror}); check the name") from error
    except (OSError, ssl.SSLError):
        return False


def _authority(folder: Path, made: list[Path]) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path = folder / "ca.key"
    path = folder / "ca.crt"
    if key_path.is_file() and path.is_file():
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key, x509.load_pem_x509_certificate(path.read_bytes())
    if path.is_file() or (folder / "server.crt").is_file():
        raise DeployError(f"{folder} holds certificates but not ca.key that signed them; use the folder that has it")
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "spikefed fleet")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write_key(key_path, key, made)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), made)
    return key, certificate


def _server(
    folder: Path, hosts: Sequence[str], ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, made: list[Path]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_alternative(host) for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"])]
    certificate = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "spikefed server")]), ca.subject, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    _write_key(folder / "server.key", key, made)
    _write(folder / "server.crt", certificate.public_bytes(serialization.Encoding.PEM), made)


def _require_named(path: Path, hosts: Sequence[str]) -> None:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    missing = [host for host in hosts if _alternative(host) not in names]
    if missing:
        raise DeployError(
            f"{path} is there already and does not name {missing[0]}; delete it and server.key, and give every --host "
            "again (ca.key must be there)"
        )


def _client(folder: Path, client: int, made: list[Path]) -> None:
    path = folder / f"client-{client}.key"
    if path.is_file() or path.with_suffix(".pub").is_file():
        return
    key = ec.generate_private_key(ec.SECP384R1())
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    _write(path, key.private_bytes(*formats), made, 0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write(path.with_suffix(".pub"), public + b"\n", made)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    # A day back: machines' clocks differ.
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, made: list[Path]) -> None:
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(path, key.private_bytes(*formats), made, 0o600)


def _write(path: Path, data: bytes, made: list[Path], mode: int = 0o644) -> None:
    # Never readable by others, not even for a moment.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    made.append(path)
