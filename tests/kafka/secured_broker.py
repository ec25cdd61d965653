"""A broker that also listens with TLS: one port asks for a password, the other for a certificate.

Everybody may do everything, but with what an ACL names: there those alone whom it names, and who uses no TLS.
"""

import subprocess
from pathlib import Path

from tests.kafka.broker import RealBroker, free_ports

USER, PASSWORD = "detector", "correct horse"

_PROPERTIES = """\
listeners=PLAINTEXT://127.0.0.1:{port},PASSWORD://127.0.0.1:{password_port},CERTIFICATE://127.0.0.1:{certificate_port},\
CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PASSWORD://127.0.0.1:{password_port},\
CERTIFICATE://127.0.0.1:{certificate_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PASSWORD:SASL_SSL,CERTIFICATE:SSL
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.certificate.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
"""
_MODULES = "org.apache.kafka.common.security"
_LOG_IN = {
    "plain": f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
    "scram-sha-256": f"{_MODULES}.scram.ScramLoginModule required;",
    "scram-sha-512": f"{_MODULES}.scram.ScramLoginModule required;",
}


class Authority:
    """Makes certificates, with openssl."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl("req", "-x509", *_NEW_KEY, "-subj", "/CN=authority", *_files(self._key, self.certificate))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the certificate and the key of 127.0.0.1 under a name, both PEM files."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", str(self.certificate), "-CAkey", str(self._key), *_files(key, certificate)),
        )
        return certificate, key


class SecuredBroker(RealBroker):
    """Started by ``with``; whose certificates are good is for its ``authority`` to say."""

    format_options = tuple(
        option
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for option in ("--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]")
    )

    def properties(self) -> str:
        """Return its ``server.properties``, and make the certificate that they name."""
        password_port, certificate_port = free_ports(2)
        self.for_passwords = f"127.0.0.1:{password_port}"
        self.for_certificates = f"127.0.0.1:{certificate_port}"
        self.authority = Authority(self._folder)
        certificate, key = self.authority.issue("broker")
        (self._folder / "broker.pem").write_text(key.read_text() + certificate.read_text())
        listeners = _PROPERTIES.format(
            port=self.port,
            password_port=password_port,
            certificate_port=certificate_port,
            controller_port=self._controller_port,
            folder=self._folder,
        )
        name = "listener.name.password"
        mechanisms = f"{name}.sasl.enabled.mechanisms={','.join(_LOG_IN).upper()}"
        log_in = [f"{name}.{mechanism}.sasl.jaas.config={module}" for mechanism, module in _LOG_IN.items()]
        # Of a key given twice the later value counts.
        return "\n".join([super().properties(), listeners, mechanisms, *log_in])


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def _files(key: Path, certificate: Path) -> tuple[str, ...]:
    return "-keyout", str(key), "-out", str(certificate)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
