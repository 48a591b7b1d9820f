"""The crash campaign: a service dies in many ways under load, and must keep its word.

| module | what |
|---|---|
| ``deaths`` | ways to die, drawn from a seed |
| ``victims``, ``warm``, ``tampering`` | the process that dies, and how it is brought to |
| ``lives`` | one life: started, traced, loaded, dead |
| ``traces``, ``medium``, ``replaying``, ``cuts`` | what a power cut leaves of a traced life |
| ``order`` | no answer precedes the sync of what it promises, as the kernel saw it |
| ``subjects``, ``tickets`` | who is killed: what it promises, how it is loaded and checked |
| ``runs``, ``worker``, ``campaign``, ``tables`` | one run; many, side by side; what they showed |
| ``sabotage`` | services that break their word, to show that the campaign notices |

Source: docs/reference/crash-campaign.md.
"""
