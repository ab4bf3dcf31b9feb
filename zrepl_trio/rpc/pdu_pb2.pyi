from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicationGuaranteeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GuaranteeInvalid: _ClassVar[ReplicationGuaranteeKind]
    GuaranteeResumability: _ClassVar[ReplicationGuaranteeKind]
    GuaranteeIncrementalReplication: _ClassVar[ReplicationGuaranteeKind]
    GuaranteeNothing: _ClassVar[ReplicationGuaranteeKind]
GuaranteeInvalid: ReplicationGuaranteeKind
GuaranteeResumability: ReplicationGuaranteeKind
GuaranteeIncrementalReplication: ReplicationGuaranteeKind
GuaranteeNothing: ReplicationGuaranteeKind

class ListFilesystemReq(_message.Message):
    __slots__ = ("After",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    After: str
    def __init__(self, After: _Optional[str] = ...) -> None: ...

class ListFilesystemRes(_message.Message):
    __slots__ = ("Filesystems", "More")
    FILESYSTEMS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    Filesystems: _containers.RepeatedCompositeFieldContainer[Filesystem]
    More: bool
    def __init__(self, Filesystems: _Optional[_Iterable[_Union[Filesystem, _Mapping]]] = ..., More: bool = ...) -> None: ...

class Filesystem(_message.Message):
    __slots__ = ("Path", "ResumeToken", "IsPlaceholder", "DatasetGuid", "Written")
    PATH_FIELD_NUMBER: _ClassVar[int]
    RESUMETOKEN_FIELD_NUMBER: _ClassVar[int]
    ISPLACEHOLDER_FIELD_NUMBER: _ClassVar[int]
    DATASETGUID_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    Path: str
    ResumeToken: str
    IsPlaceholder: bool
    DatasetGuid: int
    Written: int
    def __init__(self, Path: _Optional[str] = ..., ResumeToken: _Optional[str] = ..., IsPlaceholder: bool = ..., DatasetGuid: _Optional[int] = ..., Written: _Optional[int] = ...) -> None: ...

class ListFilesystemVersionsReq(_message.Message):
    __slots__ = ("Filesystem",)
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    Filesystem: str
    def __init__(self, Filesystem: _Optional[str] = ...) -> None: ...

class ListFilesystemVersionsRes(_message.Message):
    __slots__ = ("Versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    Versions: _containers.RepeatedCompositeFieldContainer[FilesystemVersion]
    def __init__(self, Versions: _Optional[_Iterable[_Union[FilesystemVersion, _Mapping]]] = ...) -> None: ...

class FilesystemVersion(_message.Message):
    __slots__ = ("Type", "Name", "Guid", "CreateTXG", "Creation")
    class VersionType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        Snapshot: _ClassVar[FilesystemVersion.VersionType]
        Bookmark: _ClassVar[FilesystemVersion.VersionType]
    Snapshot: FilesystemVersion.VersionType
    Bookmark: FilesystemVersion.VersionType
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GUID_FIELD_NUMBER: _ClassVar[int]
    CREATETXG_FIELD_NUMBER: _ClassVar[int]
    CREATION_FIELD_NUMBER: _ClassVar[int]
    Type: FilesystemVersion.VersionType
    Name: str
    Guid: int
    CreateTXG: int
    Creation: str
    def __init__(self, Type: _Optional[_Union[FilesystemVersion.VersionType, str]] = ..., Name: _Optional[str] = ..., Guid: _Optional[int] = ..., CreateTXG: _Optional[int] = ..., Creation: _Optional[str] = ...) -> None: ...

class SendReq(_message.Message):
    __slots__ = ("Filesystem", "From", "To", "ResumeToken", "Config", "Between")
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    RESUMETOKEN_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    BETWEEN_FIELD_NUMBER: _ClassVar[int]
    Filesystem: str
    From: FilesystemVersion
    To: FilesystemVersion
    ResumeToken: str
    Config: ReplicationConfig
    Between: _containers.RepeatedCompositeFieldContainer[FilesystemVersion]
    def __init__(self, Filesystem: _Optional[str] = ..., From: _Optional[_Union[FilesystemVersion, _Mapping]] = ..., To: _Optional[_Union[FilesystemVersion, _Mapping]] = ..., ResumeToken: _Optional[str] = ..., Config: _Optional[_Union[ReplicationConfig, _Mapping]] = ..., Between: _Optional[_Iterable[_Union[FilesystemVersion, _Mapping]]] = ...) -> None: ...

class ReplicationConfig(_message.Message):
    __slots__ = ("protection",)
    PROTECTION_FIELD_NUMBER: _ClassVar[int]
    protection: ReplicationConfigProtection
    def __init__(self, protection: _Optional[_Union[ReplicationConfigProtection, _Mapping]] = ...) -> None: ...

class ReplicationConfigProtection(_message.Message):
    __slots__ = ("Initial", "Incremental")
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    INCREMENTAL_FIELD_NUMBER: _ClassVar[int]
    Initial: ReplicationGuaranteeKind
    Incremental: ReplicationGuaranteeKind
    def __init__(self, Initial: _Optional[_Union[ReplicationGuaranteeKind, str]] = ..., Incremental: _Optional[_Union[ReplicationGuaranteeKind, str]] = ...) -> None: ...

class SendRes(_message.Message):
    __slots__ = ("UsedResumeToken", "ExpectedSize", "Sizes")
    USEDRESUMETOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPECTEDSIZE_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    UsedResumeToken: bool
    ExpectedSize: int
    Sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, UsedResumeToken: bool = ..., ExpectedSize: _Optional[int] = ..., Sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class SendCompletedReq(_message.Message):
    __slots__ = ("OriginalReq",)
    ORIGINALREQ_FIELD_NUMBER: _ClassVar[int]
    OriginalReq: SendReq
    def __init__(self, OriginalReq: _Optional[_Union[SendReq, _Mapping]] = ...) -> None: ...

class SendCompletedRes(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReceiveReq(_message.Message):
    __slots__ = ("Filesystem", "To", "ClearResumeToken", "Config", "Between", "SourceGuid")
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    CLEARRESUMETOKEN_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    BETWEEN_FIELD_NUMBER: _ClassVar[int]
    SOURCEGUID_FIELD_NUMBER: _ClassVar[int]
    Filesystem: str
    To: FilesystemVersion
    ClearResumeToken: bool
    Config: ReplicationConfig
    Between: _containers.RepeatedCompositeFieldContainer[FilesystemVersion]
    SourceGuid: int
    def __init__(self, Filesystem: _Optional[str] = ..., To: _Optional[_Union[FilesystemVersion, _Mapping]] = ..., ClearResumeToken: bool = ..., Config: _Optional[_Union[ReplicationConfig, _Mapping]] = ..., Between: _Optional[_Iterable[_Union[FilesystemVersion, _Mapping]]] = ..., SourceGuid: _Optional[int] = ...) -> None: ...

class ReceiveRes(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DestroySnapshotsReq(_message.Message):
    __slots__ = ("Filesystem", "Snapshots")
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    Filesystem: str
    Snapshots: _containers.RepeatedCompositeFieldContainer[FilesystemVersion]
    def __init__(self, Filesystem: _Optional[str] = ..., Snapshots: _Optional[_Iterable[_Union[FilesystemVersion, _Mapping]]] = ...) -> None: ...

class DestroySnapshotRes(_message.Message):
    __slots__ = ("Snapshot", "Error")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    Snapshot: FilesystemVersion
    Error: str
    def __init__(self, Snapshot: _Optional[_Union[FilesystemVersion, _Mapping]] = ..., Error: _Optional[str] = ...) -> None: ...

class DestroySnapshotsRes(_message.Message):
    __slots__ = ("Results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    Results: _containers.RepeatedCompositeFieldContainer[DestroySnapshotRes]
    def __init__(self, Results: _Optional[_Iterable[_Union[DestroySnapshotRes, _Mapping]]] = ...) -> None: ...

class ReplicationCursorReq(_message.Message):
    __slots__ = ("Filesystem",)
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    Filesystem: str
    def __init__(self, Filesystem: _Optional[str] = ...) -> None: ...

class ReplicationCursorRes(_message.Message):
    __slots__ = ("Guid", "Notexist")
    GUID_FIELD_NUMBER: _ClassVar[int]
    NOTEXIST_FIELD_NUMBER: _ClassVar[int]
    Guid: int
    Notexist: bool
    def __init__(self, Guid: _Optional[int] = ..., Notexist: bool = ...) -> None: ...

class PingReq(_message.Message):
    __slots__ = ("Message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    Message: str
    def __init__(self, Message: _Optional[str] = ...) -> None: ...

class PingRes(_message.Message):
    __slots__ = ("Echo",)
    ECHO_FIELD_NUMBER: _ClassVar[int]
    Echo: str
    def __init__(self, Echo: _Optional[str] = ...) -> None: ...

class ResolveReq(_message.Message):
    __slots__ = ("Filesystem", "Way", "Expected", "To", "Stamp", "Old")
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    WAY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    Filesystem: str
    Way: str
    Expected: _containers.RepeatedCompositeFieldContainer[FilesystemVersion]
    To: FilesystemVersion
    Stamp: str
    Old: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, Filesystem: _Optional[str] = ..., Way: _Optional[str] = ..., Expected: _Optional[_Iterable[_Union[FilesystemVersion, _Mapping]]] = ..., To: _Optional[_Union[FilesystemVersion, _Mapping]] = ..., Stamp: _Optional[str] = ..., Old: _Optional[_Iterable[str]] = ...) -> None: ...

class ResolveRes(_message.Message):
    __slots__ = ("Done",)
    DONE_FIELD_NUMBER: _ClassVar[int]
    Done: str
    def __init__(self, Done: _Optional[str] = ...) -> None: ...

class DestroySizeRes(_message.Message):
    __slots__ = ("Bytes",)
    BYTES_FIELD_NUMBER: _ClassVar[int]
    Bytes: int
    def __init__(self, Bytes: _Optional[int] = ...) -> None: ...

class ListVersionsReq(_message.Message):
    __slots__ = ("Filesystems", "After")
    FILESYSTEMS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    Filesystems: _containers.RepeatedScalarFieldContainer[str]
    After: int
    def __init__(self, Filesystems: _Optional[_Iterable[str]] = ..., After: _Optional[int] = ...) -> None: ...

class VersionsOf(_message.Message):
    __slots__ = ("Error", "Names", "Guids", "CreateTXGs", "Creations", "Bookmarks", "More", "Held")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    GUIDS_FIELD_NUMBER: _ClassVar[int]
    CREATETXGS_FIELD_NUMBER: _ClassVar[int]
    CREATIONS_FIELD_NUMBER: _ClassVar[int]
    BOOKMARKS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    Error: str
    Names: str
    Guids: _containers.RepeatedScalarFieldContainer[int]
    CreateTXGs: _containers.RepeatedScalarFieldContainer[int]
    Creations: _containers.RepeatedScalarFieldContainer[int]
    Bookmarks: _containers.RepeatedScalarFieldContainer[int]
    More: bool
    Held: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, Error: _Optional[str] = ..., Names: _Optional[str] = ..., Guids: _Optional[_Iterable[int]] = ..., CreateTXGs: _Optional[_Iterable[int]] = ..., Creations: _Optional[_Iterable[int]] = ..., Bookmarks: _Optional[_Iterable[int]] = ..., More: bool = ..., Held: _Optional[_Iterable[int]] = ...) -> None: ...

class ListVersionsRes(_message.Message):
    __slots__ = ("Listed",)
    LISTED_FIELD_NUMBER: _ClassVar[int]
    Listed: _containers.RepeatedCompositeFieldContainer[VersionsOf]
    def __init__(self, Listed: _Optional[_Iterable[_Union[VersionsOf, _Mapping]]] = ...) -> None: ...

class TimesOf(_message.Message):
    __slots__ = ("Newest", "Replicated")
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    REPLICATED_FIELD_NUMBER: _ClassVar[int]
    Newest: int
    Replicated: int
    def __init__(self, Newest: _Optional[int] = ..., Replicated: _Optional[int] = ...) -> None: ...

class PlacesReq(_message.Message):
    __slots__ = ("Filesystems", "Times")
    FILESYSTEMS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    Filesystems: _containers.RepeatedScalarFieldContainer[str]
    Times: _containers.RepeatedCompositeFieldContainer[TimesOf]
    def __init__(self, Filesystems: _Optional[_Iterable[str]] = ..., Times: _Optional[_Iterable[_Union[TimesOf, _Mapping]]] = ...) -> None: ...

class HoldOf(_message.Message):
    __slots__ = ("Version", "Tag")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    Version: FilesystemVersion
    Tag: str
    def __init__(self, Version: _Optional[_Union[FilesystemVersion, _Mapping]] = ..., Tag: _Optional[str] = ...) -> None: ...

class MarksOf(_message.Message):
    __slots__ = ("Holds", "Error")
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    Holds: _containers.RepeatedCompositeFieldContainer[HoldOf]
    Error: str
    def __init__(self, Holds: _Optional[_Iterable[_Union[HoldOf, _Mapping]]] = ..., Error: _Optional[str] = ...) -> None: ...

class MarksReq(_message.Message):
    __slots__ = ("Filesystems",)
    FILESYSTEMS_FIELD_NUMBER: _ClassVar[int]
    Filesystems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, Filesystems: _Optional[_Iterable[str]] = ...) -> None: ...

class MarksRes(_message.Message):
    __slots__ = ("Job", "Marks")
    JOB_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    Job: str
    Marks: _containers.RepeatedCompositeFieldContainer[MarksOf]
    def __init__(self, Job: _Optional[str] = ..., Marks: _Optional[_Iterable[_Union[MarksOf, _Mapping]]] = ...) -> None: ...

class PlaceOf(_message.Message):
    __slots__ = ("Path", "Error")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    Path: str
    Error: str
    def __init__(self, Path: _Optional[str] = ..., Error: _Optional[str] = ...) -> None: ...

class PlacesRes(_message.Message):
    __slots__ = ("Places",)
    PLACES_FIELD_NUMBER: _ClassVar[int]
    Places: _containers.RepeatedCompositeFieldContainer[PlaceOf]
    def __init__(self, Places: _Optional[_Iterable[_Union[PlaceOf, _Mapping]]] = ...) -> None: ...
