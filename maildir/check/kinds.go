package check

// The kinds of findings. Programs read them: a kind keeps its word and its meaning.
const (
	kindListHead  = "list-head"
	kindListTorn  = "list-torn"
	kindListLine  = "list-line"
	kindListFile  = "list-file"
	kindListOld   = "list-version-1"
	kindListGone  = "list-gone"
	kindUIDTwice  = "uid-twice"
	kindUIDOrder  = "uid-order"
	kindUIDNext   = "uid-next"
	kindUIDLost   = "uid-lost"
	kindBaseTwice = "name-listed-twice"
	kindRenames   = "rename-unfinished"

	kindNameTwice  = "name-twice"
	kindBadName    = "bad-name"
	kindBadFlags   = "bad-flags"
	kindUnnamed    = "unnamed-keyword"
	kindNotMessage = "not-a-message"
	kindHidden     = "hidden-file"

	kindSize      = "wrong-size"
	kindListSize  = "wrong-size-in-list"
	kindEmpty     = "empty"
	kindNul       = "nul-octets"
	kindHeaderEnd = "no-header-end"
	kindUnread    = "unreadable"

	kindLeftover = "leftover"
	kindYoung    = "unfinished"
	kindLock     = "dead-lock"
	kindMode     = "mode"
	kindOwner    = "owner"
	kindNoDir    = "no-directory"

	kindKeywords      = "keywords"
	kindFolderName    = "folder-name"
	kindFolderLink    = "folder-link"
	kindStage         = "removed-folder"
	kindSubscriptions = "subscriptions"
	kindSubscribed    = "subscribed-to-nothing"
	kindQuota         = "quota"
	kindMetadata      = "metadata"
	kindJournal       = "journal"
	kindCache         = "cache"
)
