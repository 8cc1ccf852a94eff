"""Files of foreign formats, written by hand from their descriptions; see each test for what is not hand-made."""

import base64
import struct
import zlib
from pathlib import Path

import numpy as np

from ecgjax.data.leads import CANONICAL

STORED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
SCP_CODES = dict(zip(CANONICAL, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))


def muse(path: Path, bits: np.ndarray, *, rate=500, step="4.88", names=STORED, doctype=True, extra="") -> Path:
    """GE MUSE XML: a median beat of noise and the rhythm `bits` (samples, leads)."""

    def waveform(kind: str, x: np.ndarray) -> str:
        leads = []
        for name, column in zip(names, x.T, strict=True):
            data = column.astype("<i2").tobytes()
            leads.append(
                f"<LeadData><LeadByteCountTotal>{len(data)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>"
                f"<LeadSampleCountTotal>{len(column)}</LeadSampleCountTotal>"
                f"<LeadAmplitudeUnitsPerBit>{step}</LeadAmplitudeUnitsPerBit>"
                f"<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadID>{name}</LeadID>"
                f"<FirstSampleBaseline>0</FirstSampleBaseline><LeadSampleSize>2</LeadSampleSize>"
                f"<LeadOff>FALSE</LeadOff><LeadDataCRC32>{zlib.crc32(data)}</LeadDataCRC32>"
                f"<WaveFormData>\n{base64.encodebytes(data).decode()}</WaveFormData></LeadData>"
            )
        return (
            f"<Waveform><WaveformType>{kind}</WaveformType><NumberofLeads>{len(names)}</NumberofLeads>"
            f"<SampleType>CONTINUOUS_SAMPLES</SampleType><SampleBase>{rate}</SampleBase>"
            f"<SampleExponent>0</SampleExponent>{''.join(leads)}</Waveform>"
        )

    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ('<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n' if doctype else "")
        + "<RestingECG><PatientDemographics><PatientID>secret</PatientID><PatientAge>18</PatientAge>"
        "<AgeUnits>MONTHS</AgeUnits><Gender>FEMALE</Gender><PatientLastName>secret</PatientLastName>"
        "</PatientDemographics><RestingECGMeasurements><VentricularRate>60</VentricularRate>"
        "<QTInterval>400</QTInterval><PAxis></PAxis></RestingECGMeasurements><Diagnosis>"
        "<DiagnosisStatement><StmtFlag>USERINSERT</StmtFlag><StmtText>Sinus</StmtText></DiagnosisStatement>"
        "<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>rhythm</StmtText></DiagnosisStatement>"
        f"</Diagnosis>{extra}{waveform('Median', bits[::-1][:50])}{waveform('Rhythm', bits)}</RestingECG>",
        encoding="utf-8",
    )
    return path


def cardiosoft(path: Path, bits: np.ndarray, *, names=CANONICAL, strip=True, disclosure: np.ndarray | None = None):
    """GE CardioSoft XML in ISO-8859-1: the strip `bits` (samples, leads), and a full disclosure."""
    parts = []
    if strip:
        rows = "".join(
            f'<WaveformData lead="{name}">\t\n{",".join(map(str, column))}</WaveformData>'
            for name, column in zip(names, bits.T.tolist(), strict=True)
        )
        parts.append(
            f'<StripData><NumberOfLeads>{len(names)}</NumberOfLeads><SampleRate units="Hz">500</SampleRate>'
            f"<ChannelSampleCountTotal>{len(bits)}</ChannelSampleCountTotal>"
            f'<Resolution units="uVperLsb">5</Resolution>{rows}</StripData>'
        )
    if disclosure is not None:
        values = disclosure.ravel().tolist()
        parts.append(
            f'<FullDisclosure><SampleRate units="Hz">500</SampleRate><Resolution units="uVperLsb">5</Resolution>'
            f"<LeadOrder>{','.join(names)}</LeadOrder><FullDisclosureData>{','.join(map(str, values))}"
            f"<SampleCountTotal>{len(values)}</SampleCountTotal></FullDisclosureData></FullDisclosure>"
        )
    path.write_text(
        '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<CardiologyXML><ClinicalInfo><DeviceInfo><Desc>CardioSoft</Desc>'
        "</DeviceInfo></ClinicalInfo><PatientInfo><PID>secret</PID><Name><FamilyName>Müller</FamilyName></Name>"
        '<Age units="YEARS">53</Age><Gender>MALE</Gender></PatientInfo><Interpretation><Diagnosis>'
        "<DiagnosisText>Gerätebefund: normal</DiagnosisText></Diagnosis></Interpretation><RestingECGMeasurements>"
        '<QRSDuration units="ms">92</QRSDuration><SokolovLVHIndex units="mV"></SokolovLVHIndex>'
        f"</RestingECGMeasurements>{''.join(parts)}</CardiologyXML>",
        encoding="iso-8859-1",
    )
    return path


def aecg_set(bits: np.ndarray, *, names=CANONICAL, increment=("0.002", "s"), origin=("0", "uV"), scale=("2.5", "uV")):
    """One sequence set of an aECG."""
    time = (
        '<component><sequence><code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS"><head value="20021122091000"/>'
        f'<increment value="{increment[0]}" unit="{increment[1]}"/></value></sequence></component>'
    )
    leads = "".join(
        f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"/><value xsi:type="SLIST_PQ">'
        f'<origin value="{origin[0]}" unit="{origin[1]}"/><scale value="{scale[0]}" unit="{scale[1]}"/>'
        f"<digits>{' '.join(map(str, column))}</digits></value></sequence></component>"
        for name, column in zip(names, bits.T.tolist(), strict=True)
    )
    return f"<component><sequenceSet>{time}{leads}</sequenceSet></component>"


def aecg(path: Path, *sets: str, code="RHYTHM", beats: str = "", prefix: str = "") -> Path:
    """HL7 aECG: sequence sets of one series, with representative beats as a derived series if given."""
    annotations = (
        "<subjectOf><annotationSet>"
        '<component><annotation><code code="MDC_ECG_TIME_PD_QRS"/><value xsi:type="PQ" value="90" unit="ms"/>'
        "</annotation></component>"
        '<component><annotation><code code="MDC_ECG_INTERPRETATION"/><component><annotation>'
        '<code code="MDC_ECG_INTERPRETATION_STATEMENT"/><value xsi:type="ST">Sinus rhythm</value></annotation>'
        "</component></annotation></component></annotationSet></subjectOf>"
    )
    derived = (
        f'<derivation><derivedSeries><code code="REPRESENTATIVE_BEAT"/>{beats}</derivedSeries></derivation>'
        if beats
        else ""
    )
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n{prefix}<AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><effectiveTime><center value="20021122091000"/>'
        "</effectiveTime><componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>"
        '<subjectDemographicPerson><name>secret</name><administrativeGenderCode code="M"/>'
        '<birthTime value="19530508"/></subjectDemographicPerson></trialSubject></subject></subjectAssignment>'
        f'</componentOf></timepointEvent></componentOf><component><series><code code="{code}"/>'
        "<author><seriesAuthor><manufacturedSeriesDevice><manufacturerModelName>ELI250</manufacturerModelName>"
        "</manufacturedSeriesDevice></seriesAuthor></author>"
        f"{''.join(sets)}{annotations}{derived}</series></component></AnnotatedECG>",
        encoding="utf-8",
    )
    return path


def huffman_default(values: list[int]) -> bytes:
    """The default table of SCP-ECG: 0; then n ones, 0 and a sign for 1 to 8; then 8 or 16 bits after ten bits."""
    bits = []
    for value in values:
        if value == 0:
            bits.append("0")
        elif abs(value) <= 8:
            bits.append("1" * abs(value) + "0" + ("1" if value < 0 else "0"))
        elif -128 <= value < 128:
            bits.append("1111111110" + f"{value & 0xFF:08b}")
        else:
            bits.append("1111111111" + f"{value & 0xFFFF:016b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def differences(column: np.ndarray, order: int) -> np.ndarray:
    """First or second differences behind the first or the first two samples."""
    x = column.astype(np.int64)
    return x if order == 0 else np.concatenate([x[:order], np.diff(x, order)])


def scp(
    path: Path, bits: np.ndarray, *, names=CANONICAL, order=0, huffman=False, step=2500, interval=2000, ranges=None,
    flags=4, bimodal=0,
) -> Path:  # fmt: skip
    """SCP-ECG 2.0: `bits` (samples, leads) in Section 6, `step` in nanovolts, `interval` in microseconds.

    `ranges` gives the first and last sample (from 1) that a lead holds, if not all.
    """
    ranges = ranges or [(1, len(bits))] * len(names)
    columns = [differences(bits[a - 1 : b, i], order) for i, (a, b) in enumerate(ranges)]
    leads = [huffman_default(c.tolist()) if huffman else c.astype("<i2").tobytes() for c in columns]
    leads = [data + b"\0" * (len(data) % 2) for data in leads]
    machine = struct.pack("<HHHBB", 0, 11, 51, 0, 255) + b"ELI250" + bytes([20, 0xC0, 0, 8]) + bytes(18)
    tags = [
        (0, b"secret\0"), (4, struct.pack("<HB", 49, 1)), (8, b"\2"), (14, machine + b"\0" * 5),
        (25, struct.pack("<HBB", 2002, 11, 22)),
    ]  # fmt: skip
    patient = b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in tags) + b"\xff\0\0"
    sections = {
        1: patient,
        3: bytes([len(names), flags | len(names) << 3])
        + b"".join(struct.pack("<IIB", a, b, SCP_CODES[name]) for name, (a, b) in zip(names, ranges, strict=True)),
        6: struct.pack("<HHBB", step, interval, order, bimodal)
        + b"".join(struct.pack("<H", len(data)) for data in leads)
        + b"".join(leads),
    }
    if huffman:
        sections[2] = struct.pack("<H", 19999)
    return write_scp(path, sections)


def write_scp(path: Path, sections: dict[int, bytes], version: int = 20) -> Path:
    """Puts headers, checksums and the pointer section around the contents of sections."""

    def section(number: int, content: bytes) -> bytes:
        reserved = b"SCPECG" if number == 0 else bytes(6)
        body = struct.pack("<HIBB", number, 16 + len(content), version, version) + reserved + content
        return struct.pack("<H", _crc(body)) + body

    contents = {number: data + b"\0" * (len(data) % 2) for number, data in sections.items()}
    numbers = range(1, max(11, *contents) + 1)
    at = 6 + 16 + 10 * (len(numbers) + 1)
    pointers, bodies = [struct.pack("<HII", 0, 16 + 10 * (len(numbers) + 1), 7)], []
    for number in numbers:
        if number not in contents:
            pointers.append(struct.pack("<HII", number, 0, 0))
            continue
        bodies.append(section(number, contents[number]))
        pointers.append(struct.pack("<HII", number, len(bodies[-1]), at + 1))
        at += len(bodies[-1])
    rest = section(0, b"".join(pointers)) + b"".join(bodies)
    record = struct.pack("<I", 6 + len(rest)) + rest
    path.write_bytes(struct.pack("<H", _crc(record)) + record)
    return path


def _crc(data: bytes) -> int:
    import binascii

    return binascii.crc_hqx(data, 0xFFFF)
