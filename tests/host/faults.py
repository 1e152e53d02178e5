"""Serial ports that lose, repeat, add and change bytes, around a real port or a device in Python."""

__all__ = ["FaultyPort", "ModelPort", "ModelTransport"]


class ModelPort:
    """What `Board` needs of a `serial.Serial`, around a device that answers at once (``feed(bytes) -> bytes``).

    A read with nothing to read returns at once: the timeout has passed, as it were.
    """

    timeout = 0.0
    baudrate = 115200

    def __init__(self, device):
        self.device = device
        self.buffer = b""
        self.closed = False

    @property
    def in_waiting(self):
        return len(self.buffer)

    def reset_input_buffer(self):
        self.buffer = b""

    def write(self, data):
        self.buffer += self.device.feed(data)

    def read(self, size):
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def close(self):
        self.closed = True


class ModelTransport:
    """A transport around a port-like object."""

    name = "the test board"
    board = None

    def __init__(self, serial):
        self.serial = serial

    def start(self):
        pass

    def close(self):
        self.serial.close()


class FaultyPort:
    """Damages what passes through another port in either direction.

    Parameters
    ----------
    port
        The port behind it.
    generator : random.Random
    rate : float
        Probability that what one write or read carries is damaged.

    Attributes
    ----------
    faults : dict of str to int
        Faults made so far, by kind.
    """

    KINDS = ("flip", "burst", "drop", "insert", "double", "cut", "lose", "repeat", "noise")

    def __init__(self, port, generator, rate):
        self._port = port
        self._generator = generator
        self._rate = rate
        self.faults = dict.fromkeys(self.KINDS, 0)
        self.writes = 0

    def __getattr__(self, name):
        return getattr(self._port, name)

    def write(self, data):
        self.writes += 1
        self._port.write(self._damage(data))

    def read(self, size):
        return self._damage(self._port.read(size))

    def _damage(self, data):
        random = self._generator
        if not data or random.random() >= self._rate:
            return data
        kind = random.choice(self.KINDS)
        self.faults[kind] += 1
        place = random.randrange(len(data))
        match kind:
            case "flip":
                return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
            case "burst":
                length = random.randint(1, 8)
                return data[:place] + random.randbytes(len(data[place : place + length])) + data[place + length :]
            case "drop":
                return data[:place] + data[place + 1 :]
            case "insert":
                return data[:place] + random.randbytes(1) + data[place:]
            case "double":
                return data[:place] + data[place : place + 1] + data[place:]
            case "cut":
                return data[:place]
            case "lose":
                return b""
            case "repeat":
                return data + data
            case "noise":
                return random.randbytes(random.randint(1, 40)) + data
